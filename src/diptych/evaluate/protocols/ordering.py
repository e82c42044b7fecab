"""Putting pictures in order by words: does similarity along a direction between two texts follow number or size?

Papers: Yu et al., Ranking-aware adapter for text-driven image ordering with CLIP (arXiv:2412.06760) (Kendall's τ and Spearman's
ρ of an order asked for in words); the direction between two opposite texts as in Wang, Chan and Loy, Exploring CLIP for Assessing the Look
and Feel of Images (arXiv:2207.12396), section 3.1.

    score = picture · (row of "many drawings of a dog" − row of "one drawing of a dog")
    τ     = Kendall's τ-b of score against the true level, within each list;   the number is the mean over lists

A sample's ``meta`` has ``list``, ``level``, and the two ends in words, ``low`` and ``high``. Lists are resampled; a list whose pictures all
score the same counts 0. Shapes: N pictures, L lists, M pictures of one, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    where="the rank correlations of its experiments",
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
    """Mean τ-b and ρ of the lists, of each kind of list too; a list of fewer than two levels is left out.

    Raises:
        UsageError: a level is no number, or no list has two levels.
    """
    samples = question.view.samples()
    members = lists(samples)
    texts = sorted({str(s.meta[end]) for s in samples for end in ("low", "high")})
    row_of = dict(zip(texts, question.encode_text(texts).double(), strict=True))
    turn_ND = torch.stack([row_of[str(s.meta["high"])] - row_of[str(s.meta["low"])] for s in samples])
    score_N = (question.image_ND.double() * turn_ND).sum(1)
    level_N = torch.tensor([float(s.meta["level"]) for s in samples], dtype=torch.float64)
    part = [question.table.part[member_M[0]] for member_M in members]
    zero_L, each_L = torch.zeros(len(members), dtype=torch.float64), torch.arange(len(members))
    metrics = []
    for name, agreement in (("kendall", kendall), ("spearman", spearman)):
        value_L = torch.cat([agreement(score_N[None, member_M], level_N[None, member_M]) for member_M in members])
        metrics += [Metric(name, value_L, each_L, 0.0), *parts(name, value_L, each_L, part, zero_L)]
    metrics = [Metric(m.name, m.value_N, m.unit_N, m.chance, hits=False) for m in sorted(metrics, key=lambda m: "[" in m.name)]
    show = {"members": members, "score_N": score_N, "level_N": level_N, "part": part}
    return Outcome(CARD.id, tuple(metrics), torch.arange(len(samples)), show)


def lists(samples: Sequence[Sample]) -> list[Tensor]:
    """int64 ``member_M``: the samples of each list that has at least two levels."""
    members: dict[int, list[int]] = {}
    for i, (sample, unit) in enumerate(zip(samples, units(samples, "list").tolist(), strict=True)):
        level = sample.meta.get("level")
        if isinstance(level, bool) or not isinstance(level, int | float) or not math.isfinite(level):
            raise UsageError(f"sample {sample.id}", f"its level {level!r} is no number", 'Write "level": a number into its JSON')
        members.setdefault(unit, []).append(i)
    found = [torch.tensor(member) for member in members.values() if len({samples[i].meta["level"] for i in member}) > 1]
    if not found:
        raise UsageError("lists to put in order", "none of them has pictures of two levels", "Give every list several levels")
    return found


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """How the mean score goes with the level, for each kind, and the list that came out worst, as the model orders it."""
    members, score_N, level_N, part = (outcome.show[key] for key in ("members", "score_N", "level_N", "part"))
    figures: list[dict[str, Any]] = []
    series = []
    for kind in sorted(set(part)):
        chosen = torch.cat([member_M for member_M, one in zip(members, part, strict=True) if one == kind])
        levels = level_N[chosen].unique(sorted=True)
        means = [float(score_N[chosen][level_N[chosen] == level].mean()) for level in levels]
        series.append({"name": kind or "score", "points": [[i + 1, mean] for i, mean in enumerate(means)]})
    if len(series) <= 12:
        figures.append({"kind": "lines", "title": "Mean score of each level", "x": "level", "y": "score", "series": series})
    worst_M = min(members, key=lambda member_M: float(kendall(score_N[None, member_M], level_N[None, member_M])))
    order = worst_M[score_N[worst_M].argsort(stable=True)].tolist()
    items = [
        {"picture": thumbs.name(i), "text": f"level {float(level_N[i]):g}", "note": f"score {float(score_N[i]):.3f}"} for i in order[:48]
    ]
    figures.append({"kind": "pictures", "title": "The list in the worst order, lowest score first", "items": items})
    return {"figures": figures}
