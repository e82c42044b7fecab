"""CounterAnimal: how much of the accuracy hangs on the background that usually goes with a class?

Paper: Wang et al., A Sober Look at the Robustness of CLIPs to Spurious Features (arXiv:2403.11497): common and counter groups, and
the drop between them. Worst-group accuracy: Sagawa et al., Distributionally Robust Neural Networks (arXiv:1911.08731)
(Waterbirds: a train split in which 95 % of the pictures have their class's background, a test split in which both are as frequent).

    background_drop = accuracy on the common background − accuracy on the other one
    worst_group     = min over (usual background, background) of the accuracy there

both for zero-shot and, where there is a train split, for a linear probe fitted on it (``probe_…``), which has every reason to read the
background. A sample's ``meta`` has ``background``, ``home`` (the background that goes with its class) and ``drawing``, which is resampled.
Shapes: N pictures, K classes, D width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.evaluate import fitting
from diptych.evaluate.details import Thumbs
from diptych.evaluate.metrics import logistic
from diptych.evaluate.metrics.classification import feature_ranks, label_ranks, top_k, top_k_chance
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.protocols.choice import asked, units
from diptych.evaluate.protocols.zero_shot import class_rows

CARD = Card(
    id="counteranimal",
    name="CounterAnimal",
    family="protocol",
    paper="A Sober Look at the Robustness of CLIPs to Spurious Features (arXiv:2403.11497)",
    where="the common and the counter group, and the drop between them",
    needs=frozenset({"labels", "backgrounds"}),
    claim="CLIP models lose much accuracy where an animal stands on a background that is unusual for it",
)
ORDER = 26
ASPECT = "Backgrounds"
SUITES = {"full": ("pictobench/background",)}
ABOUT = {
    "background_drop": About("Drop off the usual background", "accuracy on the usual background less that on the other", better="lower"),
    "worst_group": About("Worst group", "accuracy in the worst group of class kind and background"),
    "common": About("Usual background", "the right name comes first"),
    "counter": About("Other background", "the right name comes first"),
    "probe_background_drop": About(
        "Drop of a probe", "the same for a linear probe fitted where background and class go together", better="lower"
    ),
    "probe_worst_group": About("Worst group of a probe", "accuracy of the probe in the worst group"),
    "probe_common": About("Usual background, probe", "the probe names it rightly"),
    "probe_counter": About("Other background, probe", "the probe names it rightly"),
}
PENALTY = 100.0  # inverse; the same for every model


def applies(question: Question) -> bool:
    """There are classes and labels, and the samples say their background and the usual one."""
    told = all(asked(question, field) for field in ("background", "home"))
    return told and bool(question.classes) and bool((question.table.label_N >= 0).any())


def groups(question: Question, index_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``group_N`` (usual background, background), ``common_N`` bool and ``unit_N`` of the samples at ``index_N``."""
    samples = question.view.samples(index_N)
    known: dict[tuple[str, str], int] = {}
    pairs = [(str(sample.meta.get("home")), str(sample.meta.get("background"))) for sample in samples]
    group_N = torch.tensor([known.setdefault(pair, len(known)) for pair in pairs])
    return group_N, torch.tensor([home == background for home, background in pairs]), units(samples, "drawing")


def run(question: Question) -> Outcome:
    """Drop, worst group and the accuracy of both halves, zero-shot and of a probe.

    Raises:
        UsageError: a label lies outside the classes.
        SealedError: the train split holds test pictures.
    """
    index_N = (question.table.label_N >= 0).nonzero()[:, 0]
    label_N, image_ND = question.table.label_N[index_N], question.image_ND[index_N]
    group_N, common_N, unit_N = groups(question, index_N)
    class_KD = class_rows(question.classes, question.templates, question.encode_text)
    chance = top_k_chance(1, len(class_KD))
    hits = {"": top_k(feature_ranks(image_ND, class_KD, label_N), 1)}
    if question.view.has("train"):
        train = fitting.part(question, "train")
        probe = logistic.fit(train.image_ND, train.label_N, len(class_KD), PENALTY)
        hits["probe_"] = top_k(label_ranks(probe.logits(image_ND), label_N), 1)
    metrics = []
    for prefix, hit_N in hits.items():
        half_N2, in_N2 = torch.stack([hit_N, common_N.double()], 1), torch.stack([hit_N, group_N.double()], 1)
        metrics += [
            Metric(f"{prefix}background_drop", half_N2, unit_N, 0.0, hits=False, of=drop),
            Metric(f"{prefix}worst_group", in_N2, unit_N, chance, hits=False, of=worst(len(group_N.unique()))),
            Metric(f"{prefix}common", hit_N[common_N], unit_N[common_N], chance),
            Metric(f"{prefix}counter", hit_N[~common_N], unit_N[~common_N], chance),
        ]
    return Outcome(CARD.id, tuple(metrics), index_N, {})


def drop(value_N2: Tensor) -> float:
    """Accuracy where the second column is 1, less that where it is 0; NaN where one of the two is empty."""
    hit_N, common_N = value_N2.unbind(1)
    if not 0 < float(common_N.sum()) < len(common_N):
        return math.nan
    return float(hit_N[common_N > 0].mean() - hit_N[common_N == 0].mean())


def worst(count: int) -> Any:
    """The function from hits with group numbers 0 … count − 1 to the lowest accuracy of a group; NaN where a group is empty."""

    def lowest(value_N2: Tensor) -> float:
        hit_N, group_N = value_N2[:, 0], value_N2[:, 1].long()
        size_G = torch.bincount(group_N, minlength=count).double()
        hit_G = torch.zeros(count, dtype=torch.float64).index_add_(0, group_N, hit_N)
        return float((hit_G / size_G).min()) if bool((size_G > 0).all()) else math.nan

    return lowest


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """Accuracy on the usual and on the other background."""
    value = {metric.name: float(metric.value_N.mean()) for metric in outcome.metrics if metric.of is None}
    rows = [("zero-shot", "common", "counter"), ("linear probe", "probe_common", "probe_counter")]
    series = [{"name": name, "from": value[common], "to": value[counter]} for name, common, counter in rows if common in value]
    figure = {"kind": "slope", "title": "On the usual and on the other background", "left": "usual", "right": "other", "share": True}
    return {"figures": [figure | {"series": series}]}
