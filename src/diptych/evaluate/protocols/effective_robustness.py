"""Effective robustness: accuracy in unseen styles beyond what accuracy in the trained ones foretells.

Paper: Taori et al., Measuring Robustness to Natural Distribution Shifts in Image Classification (arXiv:2007.00644), section 2.

The two accuracies are those of :mod:`.style_shift`. The line comes from ``evaluate/reference_line.tsv``: classifiers trained on
``pictograms/train`` alone (pixels, gradient directions or patches, with class means, nearest neighbours or ridge regression; made by
``benchmarks/reference_line.py``). They are weak, so a good model is read off the line's continuation: how far beyond is told beside it.
The line itself is taken as exact; the interval is that of the model's own pictures. For data of one's own give the accuracies of one's own
models to :func:`diptych.evaluate.metrics.effective.fit`.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources
from typing import Any

from torch import Tensor

from diptych.core.card import Card
from diptych.evaluate.details import Thumbs
from diptych.evaluate.metrics import effective
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.protocols import style_shift

CARD = Card(
    id="effective_robustness",
    name="Effective robustness",
    family="protocol",
    paper="Measuring Robustness to Natural Distribution Shifts in Image Classification (arXiv:2007.00644)",
    where="section 2, effective robustness",
    code="https://github.com/modestyachts/imagenet-testbed",
    needs=frozenset({"the set that the reference models were measured on"}),
)
ORDER = 35
ASPECT = "Robustness"
SET = "pictograms/zero-shot"
SUITES = {"full": (SET,)}
ABOUT = {
    "effective_robustness": About("Effective robustness", "top-1 in unseen styles above what the line of reference models foretells"),
    "expected_unseen_top1": About(
        "Top-1 in unseen styles, as foretold", "where the line lies at this model's top-1 in trained styles", "neither"
    ),
}


@cache
def references() -> tuple[tuple[str, float, float], ...]:
    """Name, accuracy in distribution and shifted accuracy of each reference model."""
    text = resources.files("diptych.evaluate").joinpath("reference_line.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return tuple((row["model"], float(row["in_distribution"]), float(row["shifted"])) for row in rows)


def line() -> effective.Line:
    """The shipped line."""
    return effective.fit([(a, b) for _, a, b in references()])


def applies(question: Question) -> bool:
    """It is the set that the reference models were measured on, whole."""
    return style_shift.applies(question) and question.view.data.name == SET


def accuracies(value_N2: Tensor) -> tuple[float, float]:
    """Accuracy in distribution and shifted, of rows ``(hit, shifted)``; NaN for an empty side."""
    shifted = value_N2[:, 1] > 0
    return float(value_N2[~shifted, 0].mean()), float(value_N2[shifted, 0].mean())


def run(question: Question) -> Outcome:
    """The distance to the line, and where the line lies; intervals resample concepts."""
    fitted = line()
    found = style_shift.sides(question)
    rows, unit = found.rows()

    def above(value_N2: Tensor) -> float:
        return effective.effective(fitted, *accuracies(value_N2))

    def foretold(value_N2: Tensor) -> float:
        trained, shifted = accuracies(value_N2)
        return shifted - effective.effective(fitted, trained, shifted)

    metrics = (
        Metric("effective_robustness", rows, unit, None, hits=False, of=above),
        Metric("expected_unseen_top1", rows, unit, None, hits=False, of=foretold),
    )
    return Outcome(CARD.id, metrics, found.index_N, {"at": accuracies(rows), "line": fitted})


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """The line, the reference models, and the model."""
    fitted: effective.Line = outcome.show["line"]
    trained, shifted = outcome.show["at"]
    beyond = f" {trained:.0%} lies beyond the best of them ({fitted.high:.0%}), so the line is continued." if trained > fitted.high else ""
    told = f"{fitted.n} reference models; the line explains {fitted.r2:.0%} of the variance in logit space.{beyond}"
    top = max(fitted.high, trained, 0.05)
    curve = [[top * i / 40, fitted.expected(top * i / 40)] for i in range(1, 41) if top * i / 40 < 1]
    models = sorted([a, b] for _, a, b in references())
    series = [{"name": "line", "points": curve}, {"name": "reference models", "points": models}]
    figure = {
        "kind": "lines",
        "title": "Effective robustness",
        "about": told,
        "x": "top-1 in trained styles",
        "y": "top-1 in unseen styles",
    }
    return {
        "figures": [figure | {"series": [*series, {"name": "this model", "points": [[trained, shifted]]}], "share": True, "x_share": True}]
    }
