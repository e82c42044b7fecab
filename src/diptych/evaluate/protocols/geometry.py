"""How pictures and their words lie in the joint space: close pairs, even spread, and the gap between the two kinds.

Papers: Wang and Isola, Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere
(arXiv:2005.10242), section 4.1; Liang et al., Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive Representation
Learning (arXiv:2203.02053), the gap and its shift.

A pair is a picture and its first caption. Besides the length of the gap it is told how much of what parts a pair is the same vector for
every pair (``gap_share``), whether a plane across the gap tells pictures from words (``gap_separation``), and what moving both sides
together does to retrieval. The formulas stand in :mod:`diptych.evaluate.metrics.geometry`. Shapes: N pairs, D width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor

from diptych.core.card import Card
from diptych.evaluate.details import Thumbs
from diptych.evaluate.material import Table
from diptych.evaluate.metrics import geometry as metric
from diptych.evaluate.metrics import retrieval
from diptych.evaluate.metrics.bootstrap import Estimate
from diptych.evaluate.metrics.jackknife import grouped
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.protocols.retrieval import flatten

CARD = Card(
    id="geometry",
    name="Alignment, uniformity and modality gap",
    family="protocol",
    paper="Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere (arXiv:2005.10242)",
    where="section 4.1; the gap: arXiv:2203.02053, its embedding shift experiment",
    code="https://github.com/SsnL/align_uniform",
    needs=frozenset({"captions"}),
)
ORDER = 61
ASPECT = "Representation"
SUITES = {"full": ("pictograms/retrieval",)}
ABOUT = {
    "alignment": About("Alignment", "mean squared distance of a picture and its caption; 2 where unrelated", "lower", share=False),
    "image_uniformity": About("Uniformity of pictures", "how evenly they cover the sphere; −4 at right angles", "lower", share=False),
    "text_uniformity": About("Uniformity of words", "how evenly they cover the sphere; −4 at right angles", "lower", share=False),
    "gap": About("Modality gap", "distance between the mean picture and the mean caption", "neither", share=False),
    "gap_share": About("Share of the gap", "of what parts a picture from its caption, how much is the same for all", "neither"),
    "gap_separation": About("Told apart by the gap", "a plane across the gap has the row on its own kind's side", "neither"),
    "closed_gap_change": About(
        "Recall at 10, gap closed", "what text → image gains when both sides are moved together", "neither", share=False
    ),
}
LIMIT = 2000
STEPS = (-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
AT = 10
BINS = 40


def paired(question: Question, limit: int = LIMIT) -> tuple[Tensor, Tensor, Tensor, Table]:
    """At most ``limit`` pictures that have captions, each with its first: which they are, ``image_ND``, ``text_ND`` and their table."""
    index_N = torch.tensor([i for i, captions in enumerate(question.table.captions) if captions], dtype=torch.int64)
    table, image_ND = question.table.take(index_N), question.image_ND[index_N]
    texts, owner_M = flatten(table)  # the same texts as retrieval asks for, so that they are encoded once
    text_MD = question.encode_text(texts)
    at = {(int(table.group_N[owner]), text): m for m, (text, owner) in enumerate(zip(texts, owner_M.tolist(), strict=True))}
    first_N = torch.tensor([at[int(group), captions[0]] for group, captions in zip(table.group_N, table.captions, strict=True)])
    kept_N = torch.arange(len(index_N))
    if limit < len(index_N):
        kept_N = torch.randperm(len(index_N), generator=question.view.generator("paired"))[:limit].sort().values
    return index_N[kept_N], image_ND[kept_N], text_MD[first_N[kept_N]], table.take(kept_N)


def applies(question: Question) -> bool:
    """At least four pictures have captions, and there is more than rows (its random numbers)."""
    return question.more is not None and sum(bool(captions) for captions in question.table.captions) >= 4


def run(question: Question) -> Outcome:
    """The metrics of :data:`ABOUT`. Intervals leave out concepts where the set names them, else pairs."""
    index_N, image_ND, text_ND, table = paired(question)
    unit_N = table.group_N
    place_N2, side_2N = separated(image_ND, text_ND, unit_N, question.view.generator("geometry", "halves"))
    recall = {step: recalls(*metric.moved(image_ND, text_ND, step), unit_N) for step in STEPS}

    def given(name: str, statistic: Any) -> Estimate:
        return grouped(statistic, len(index_N), question.view.generator("geometry", name), unit_N=unit_N)

    def uniform(rows_ND: Tensor) -> Any:
        kernel_NN = (-metric.SHARPNESS * torch.cdist(rows_ND.double(), rows_ND.double()).square()).exp().fill_diagonal_(0)
        return lambda index: math.log(float(kernel_NN[index][:, index].sum()) / (len(index) * (len(index) - 1)))

    metrics = (
        Metric("alignment", metric.alignment(image_ND, text_ND), unit_N, None, hits=False),
        _given("image_uniformity", given("image_uniformity", uniform(image_ND))),
        _given("text_uniformity", given("text_uniformity", uniform(text_ND))),
        _given("gap", given("gap", lambda index: metric.gap_length(image_ND[index], text_ND[index]))),
        _given("gap_share", given("gap_share", lambda index: metric.gap_share(image_ND[index], text_ND[index]))),
        Metric("gap_separation", side_2N, torch.cat([unit_N, unit_N]), 0.5, hits=False),
        Metric("closed_gap_change", recall[1.0][0] - recall[0.0][0], unit_N, 0.0, hits=False),
    )
    show = {
        "place_N2": place_N2,
        "moved": {step: (float(to_image.mean()), float(to_text.mean())) for step, (to_image, to_text) in recall.items()},
    }
    return Outcome(CARD.id, metrics, index_N, show)


def _given(name: str, estimate: Estimate) -> Metric:
    return Metric(name, torch.zeros(0, dtype=torch.float64), None, None, hits=False, given=estimate)


def separated(image_ND: Tensor, text_ND: Tensor, unit_N: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Places along the gap ``N,2`` (picture, caption; 0 is half-way), and 1.0 where a row is on its own kind's side (``2N``).

    The gap is taken from one half of the units and the rows of the other half are placed on it, both ways: its own rows would lie on their
    side more often than others even where there is no gap.
    """
    _, of_N = unit_N.unique(return_inverse=True)
    half_N = (torch.randperm(int(of_N.max()) + 1, generator=generator) % 2)[of_N]
    place_N2 = torch.zeros(len(image_ND), 2, dtype=torch.float64)
    for half in (0, 1):
        seen, placed = half_N != half, half_N == half
        gap_D = metric.gap(image_ND[seen], text_ND[seen])
        along_D = gap_D / gap_D.norm().clamp(min=1e-12)
        middle = float((image_ND[seen].double().mean(0) + text_ND[seen].double().mean(0)) @ along_D) / 2
        place_N2[placed] = torch.stack([image_ND[placed].double() @ along_D, text_ND[placed].double() @ along_D], 1) - middle
    return place_N2, torch.cat([place_N2[:, 0] > 0, place_N2[:, 1] < 0]).double()


def recalls(image_ND: Tensor, text_ND: Tensor, group_N: Tensor) -> tuple[Tensor, Tensor]:
    """Hits at 10, text → image and image → text, of one caption a picture."""
    return (
        retrieval.recall(retrieval.ranks(text_ND, image_ND, group_N, group_N), AT),
        retrieval.recall(retrieval.ranks(image_ND, text_ND, group_N, group_N), AT),
    )


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """Where pictures and captions lie along the gap, and what moving them does to retrieval."""
    place_N2, moved = outcome.show["place_N2"], outcome.show["moved"]
    low, high = float(place_N2.min()), float(place_N2.max())
    edge = torch.linspace(low, high, BINS + 1, dtype=torch.float64)
    series = []
    for column, name in enumerate(("pictures", "captions")):
        count_B = torch.histc(place_N2[:, column], BINS, low, high) / len(place_N2)
        series.append(
            {"name": name, "points": [[round(x, 4), round(y, 5)] for x, y in zip(edge[:-1].tolist(), count_B.tolist(), strict=True)]}
        )
    steps = [
        {"name": name, "points": [[step, round(both[way], 4)] for step, both in moved.items()]}
        for way, name in enumerate(("text → image", "image → text"))
    ]
    return {
        "figures": [
            {
                "kind": "lines",
                "title": "Pictures and captions along the gap",
                "series": series,
                "x": "place along the difference of the means",
                "y": "share of rows",
            },
            {
                "kind": "lines",
                "title": "Recall at 10 when the two sides are moved together",
                "series": steps,
                "x": "share of the gap that is closed",
                "y": "recall at 10",
            },
        ]
    }
