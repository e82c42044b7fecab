"""Concept association bias: asked for the colour of one of two things, does the model name the other's?

Paper: Yamada et al., When are Lemons Purple? The Concept Association Bias of Vision-Language Models (arXiv:2212.12043): a model
that reads words as a bag completes "a lemon" with the eggplant's purple, the more so the firmer thing and colour belong together.

    answer      = argmax over colours of  picture · row of "a COLOUR lemon"
    colour_bias = mean(answer is the other thing's colour),   guessing gives 1/K
    pull        = colour_bias where both things have the colour they are known for − colour_bias where colours are free

A sample's ``meta`` has ``choices`` (one a colour), ``answer``, ``other`` (the index of the other thing's colour, or null), ``asked`` (the
thing) and ``group``: ``"known"``, ``"free"`` or ``"alone"`` (one thing: does the model know colours at all?). Things asked for are
resampled. Shapes: N pictures, K colours.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.evaluate.details import Thumbs
from diptych.evaluate.metrics.classification import label_ranks
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.protocols.choice import asked, parts, scores, units

CARD = Card(
    id="concept-association-bias",
    name="Concept association bias",
    family="protocol",
    paper="When are Lemons Purple? The Concept Association Bias of Vision-Language Models (arXiv:2212.12043)",
    where="zero-shot colour recognition of one of two things",
    needs=frozenset({"choices", "other"}),
    claim="asked for one of two things, contrastive models name the other's colour, above all where things have their usual colours",
)
ORDER = 21
ASPECT = "Binding"
SUITES = {"full": ("pictobench/association",)}
ABOUT = {
    "colour_bias": About("The other's colour", "the answer is the colour of the other thing", better="lower"),
    "colour_accuracy": About("The right colour", "the answer is the colour of the thing that was asked for"),
    "pull": About("Pull of usual colours", "bias where things have their usual colours less bias where they have any", better="lower"),
}
SHOWN = 12


def applies(question: Question) -> bool:
    """The samples bring choices and say which one is the other thing's."""
    return asked(question, "choices") and asked(question, "other")


def run(question: Question) -> Outcome:
    """Bias and accuracy, of each group too, and the pull of usual colours where there are both groups.

    Raises:
        UsageError: a sample's choices, answer or other cannot be read, or no sample has another thing.
    """
    samples = question.view.samples()
    score_NK, answer_N = scores(samples, question.image_ND, question.encode_text)
    other_N = torch.tensor([-1 if s.meta.get("other") is None else int(s.meta["other"]) for s in samples])
    size_N = score_NK.isfinite().sum(1)
    wrong_N = (other_N >= size_N) | (other_N == answer_N)
    if bool(wrong_N.any()) or not bool((other_N >= 0).any()):
        name = samples[int(wrong_N.nonzero()[0, 0])].id if bool(wrong_N.any()) else samples[0].id
        why = "its other is no choice, or the answer itself, or no sample has another thing"
        raise UsageError(f"sample {name}", why, 'Write "other": the index of the other thing\'s choice into its JSON')
    unit_N, part = units(samples, "asked"), question.table.part
    two_N = other_N >= 0
    hit_N = (label_ranks(score_NK, answer_N) == 0).double()
    bias_N = torch.zeros_like(hit_N)
    bias_N[two_N] = (label_ranks(score_NK[two_N], other_N[two_N]) == 0).double()
    chance_N = 1 / size_N.double()
    two_part = [p for p, two in zip(part, two_N.tolist(), strict=True) if two]
    metrics = [Metric("colour_bias", bias_N[two_N], unit_N[two_N], float(chance_N[two_N].mean()), hits=False)]
    metrics.append(Metric("colour_accuracy", hit_N, unit_N, float(chance_N.mean())))
    known_N = torch.tensor([p == "known" for p in part])
    free_N = torch.tensor([p == "free" for p in part])
    if bool((known_N & two_N).any()) and bool((free_N & two_N).any()):
        both_N = (known_N | free_N) & two_N
        value_N2 = torch.stack([bias_N[both_N], known_N[both_N].double()], 1)
        metrics.append(Metric("pull", value_N2, unit_N[both_N], 0.0, hits=False, of=pull))
    biases = parts("colour_bias", bias_N[two_N], unit_N[two_N], two_part, chance_N[two_N])
    metrics += [Metric(m.name, m.value_N, m.unit_N, m.chance, hits=False) for m in biases]
    metrics += parts("colour_accuracy", hit_N, unit_N, part, chance_N)
    shown = {"told_N": score_NK.argmax(1), "answer_N": answer_N, "other_N": other_N, "part": part}
    return Outcome(CARD.id, tuple(metrics), torch.arange(len(samples)), {**shown, "choices": [s.meta["choices"] for s in samples]})


def pull(value_N2: Tensor) -> float:
    """Mean of the first column where the second is 1, less that where it is 0; NaN where one is empty."""
    bias_N, known_N = value_N2.unbind(1)
    if not 0 < float(known_N.sum()) < len(known_N):
        return math.nan
    return float(bias_N[known_N > 0].mean() - bias_N[known_N == 0].mean())


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """How the answers of each group divide, and pictures where the other's colour was named."""
    told_N, answer_N, other_N, part, choices = (outcome.show[key] for key in ("told_N", "answer_N", "other_N", "part", "choices"))
    names = sorted(set(part))
    values = []
    for name in names:
        in_N = torch.tensor([one == name for one in part])
        right, other = (float((told_N == index_N)[in_N].double().mean()) for index_N in (answer_N, other_N))
        values.append([right, other, max(0.0, 1 - right - other)])
    columns = ["its own colour", "the other's", "another"]
    title = "What is answered when asked for a colour"
    figures: list[dict[str, Any]] = [
        {"kind": "heat", "title": title, "share": True, "rows": [n or "all" for n in names], "columns": columns, "values": values}
    ]
    items = [
        {"picture": thumbs.name(i), "text": choices[i][int(answer_N[i])], "answer": choices[i][int(told_N[i])]}
        for i in (told_N == other_N).nonzero()[:SHOWN, 0].tolist()
    ]
    if items:
        figures.append({"kind": "pictures", "title": "The other's colour", "items": items})
    return {"figures": figures}
