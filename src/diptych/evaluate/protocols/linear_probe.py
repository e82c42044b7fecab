"""Linear probe: how well a linear classifier names pictures from the frozen rows.

Paper: Radford et al., Learning Transferable Visual Models From Natural Language Supervision (arXiv:2103.00020), section 3.2, appendix A.3.

Multinomial logistic regression on the unit rows (see :mod:`diptych.evaluate.metrics.logistic`). The penalty is the one that names most
of the validation pictures rightly; as in the paper and in CLIP_benchmark, the classifier is then fitted again, at that penalty, on train
and validation together, and only this one sees the test pictures.

    for c in PATH:
        hits[c] = accuracy(fit(train, c), validation)
    probe = fit(train + validation, argmax(hits))
"""

from __future__ import annotations

from typing import Any

import torch

from diptych.core.card import Card
from diptych.evaluate import fitting
from diptych.evaluate.details import Thumbs
from diptych.evaluate.metrics import classification, logistic
from diptych.evaluate.outcome import About, Metric, Outcome, Question

CARD = Card(
    id="linear_probe",
    name="Linear probe",
    family="protocol",
    paper="Learning Transferable Visual Models From Natural Language Supervision (arXiv:2103.00020)",
    where="section 3.2, appendix A.3",
    code="https://github.com/LAION-AI/CLIP_benchmark",
    needs=frozenset({"labels", "a train split"}),
)
ORDER = 10
ASPECT = "Probes"
SUITES = {"full": ("study/kinds",)}
ABOUT = {
    "top1": About("Top-1", "the right name comes first"),
    "mean_per_class": About("Mean per class", "top-1, every class counting the same"),
}
PATH = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
SMALL = 200_000  # pictures times classes


def applies(question: Question) -> bool:
    """There are classes, labels and a train split."""
    return fitting.can_fit(question)


def run(question: Question) -> Outcome:
    """Top-1 and mean per class of the probe on the pictures that have a label.

    Raises:
        UsageError: the splits have no class in common with the set, or nothing can be held out to choose by.
        SealedError: a split holds test pictures.
    """
    test, index_N = fitting.asked(question)
    train, held = fitting.splits(question)
    classes = len(question.classes)
    how, path = precision(len(train), classes)
    chosen, told = logistic.choose(train.image_ND, train.label_N, held.image_ND, held.label_N, classes, path, **how)
    both = train + held
    probe = logistic.fit(both.image_ND, both.label_N, classes, chosen.c, start=chosen, **{**how, "tolerance": how["tolerance"] / 100})
    hit_N = classification.top_k(classification.label_ranks(probe.logits(test.image_ND), test.label_N), 1)
    mean_C, class_C = classification.per_class(hit_N, test.label_N, classes)
    chance = classification.top_k_chance(1, classes)
    metrics = (Metric("top1", hit_N, test.group_N, chance), Metric("mean_per_class", mean_C, class_C, chance, hits=False))
    return Outcome(CARD.id, metrics, index_N, {"told": told, "c": chosen.c, "fitted": len(both), "held": len(held)})


def precision(rows: int, classes: int) -> tuple[dict[str, Any], tuple[float, ...]]:
    """How exactly to fit and which penalties to try: every one of :data:`PATH` in float64, or, of big problems, every other in float32."""
    if rows * classes <= SMALL:
        return {"dtype": torch.float64, "tolerance": 1e-5}, PATH
    return {"dtype": torch.float32, "tolerance": 1e-4}, PATH[::2]


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """Validation accuracy against the penalty."""
    show = outcome.show
    about = f"c = {show['c']:g} names most of {show['held']} held-out pictures; the probe is fitted on {show['fitted']} at that penalty."
    series = [{"name": "validation", "points": [[c, hit] for c, hit in show["told"]]}]
    figure = {"kind": "lines", "title": "Choosing the penalty", "about": about, "x": "c (larger fits closer)", "y": "top-1"}
    return {"figures": [figure | {"series": series, "log": True, "share": True}]}
