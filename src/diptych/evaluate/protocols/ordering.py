"""Putting pictures in order by words: does similarity along a direction between two texts follow number or size?

Papers: Yu et al., Ranking-aware adapter for text-driven image ordering with CLIP (arXiv:2412.06760), section 4 (Kendall's τ and Spearman's
ρ of an order asked for in words); the direction between two opposite texts as in Wang, Chan and Loy, Exploring CLIP for Assessing the Look
and Feel of Images (arXiv:2207.12396), section 3.1.

    score = picture · (row of "many drawings of a dog" − row of "one drawing of a dog")
    τ     = Kendall's τ-b of score against the true level, within each list;   the number is the mean over lists

A sample's ``meta`` has ``list``, ``level``, and the two ends in words, ``low`` and ``high``. Lists are resampled; a list whose pictures all
score the same counts 0. Shapes: L lists, M pictures of each, D width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.core.types import Sample
from diptych.evaluate.details import Thumbs
from diptych.evaluate.metrics.ordering import kendall, spearman
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.protocols.choice import asked, parts, units

CARD = Card(
    id="ordering",
    name="Putting in order",
    family="protocol",
    paper="Ranking-aware adapter for text-driven image ordering with CLIP (arXiv:2412.06760)",
    where="section 4",
    code="https://github.com/uynaes/RankingAwareCLIP",
    needs=frozenset({"levels"}),
)
ORDER = 24
ASPECT = "Ordering"
SUITES = {"full": ("pictobench/ordering",)}
ABOUT = {
    "kendall": About("Kendall's τ", "agreement with the true order, −1 to 1", share=False),
    "spearman": About("Spearman's ρ", "agreement with the true order, −1 to 1", share=False),
}


def applies(question: Question) -> bool:
    """The samples bring lists with levels and the two ends in words."""
    return all(asked(question, field) for field in ("list", "level", "low", "high"))


def run(question: Question) -> Outcome:
    """Mean τ-b and ρ of the lists, of each kind of list too.

    Raises:
        UsageError: a level is no number, a list has one picture or one level only, or lists are not equally long.
    """
    samples = question.view.samples()
    member_LM = lists(samples)
    texts = sorted({str(s.meta[end]) for s in samples for end in ("low", "high")})
    row_of = dict(zip(texts, question.encode_text(texts).double(), strict=True))
    turn_ND = torch.stack([row_of[str(s.meta["high"])] - row_of[str(s.meta["low"])] for s in samples])
    score_N = (question.image_ND.double() * turn_ND).sum(1)
    level_N = torch.tensor([float(s.meta["level"]) for s in samples], dtype=torch.float64)
    part = [question.table.part[i] for i in member_LM[:, 0].tolist()]
    zero_L, each_L = torch.zeros(len(member_LM), dtype=torch.float64), torch.arange(len(member_LM))
    metrics = []
    for name, agreement in (("kendall", kendall), ("spearman", spearman)):
        value_L = agreement(score_N[member_LM], level_N[member_LM])
        metrics += [Metric(name, value_L, None, 0.0, hits=False), *parts(name, value_L, each_L, part, zero_L)]
    metrics.sort(key=lambda metric: "[" in metric.name)
    plain = [Metric(m.name, m.value_N, m.unit_N, m.chance, hits=False) for m in metrics]
    show = {"member_LM": member_LM, "score_N": score_N, "level_N": level_N, "part": part}
    return Outcome(CARD.id, tuple(plain), torch.arange(len(samples)), show)


def lists(samples: list[Sample]) -> Tensor:
    """int64 ``member_LM``: the samples of each list."""
    members: dict[int, list[int]] = {}
    for i, (sample, unit) in enumerate(zip(samples, units(samples, "list").tolist(), strict=True)):
        level = sample.meta.get("level")
        if isinstance(level, bool) or not isinstance(level, int | float) or not math.isfinite(level):
            raise UsageError(f"sample {sample.id}", f"its level {level!r} is no number", 'Write "level": a number into its JSON')
        members.setdefault(unit, []).append(i)
    lengths = {len(member) for member in members.values()}
    flat = any(len({samples[i].meta["level"] for i in member}) < 2 for member in members.values())
    if len(lengths) != 1 or flat:
        why = "a list has only one level" if flat else f"they have from {min(lengths)} to {max(lengths)} pictures"
        raise UsageError("lists to put in order", why, "Give every list equally many pictures of at least two levels")
    return torch.tensor(list(members.values()))


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """How the mean score goes with the level, for each kind, and the list that came out worst, as the model orders it."""
    member_LM, score_N, level_N, part = (outcome.show[key] for key in ("member_LM", "score_N", "level_N", "part"))
    figures: list[dict[str, Any]] = []
    series = []
    for kind in sorted(set(part)):
        chosen = member_LM[torch.tensor([one == kind for one in part])].reshape(-1)
        levels = level_N[chosen].unique(sorted=True)
        means = [float(score_N[chosen][level_N[chosen] == level].mean()) for level in levels]
        series.append({"name": kind or "score", "points": [[i + 1, mean] for i, mean in enumerate(means)]})
    if len(series) <= 12:
        figures.append({"kind": "lines", "title": "Mean score of each level", "x": "level", "y": "score", "series": series})
    worst = int(kendall(score_N[member_LM], level_N[member_LM]).argmin())
    order = member_LM[worst][score_N[member_LM[worst]].argsort(stable=True)].tolist()
    items = [
        {"picture": thumbs.name(i), "text": f"level {float(level_N[i]):g}", "note": f"score {float(score_N[i]):.3f}"} for i in order[:48]
    ]
    figures.append({"kind": "pictures", "title": "The list in the worst order, lowest score first", "items": items})
    return {"figures": figures}
