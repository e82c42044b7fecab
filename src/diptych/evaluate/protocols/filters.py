"""Filters: naming after blur, loss of contrast, low-pass and high-pass filters.

Paper: Geirhos et al., Partial success in closing the gap between human and machine vision (arXiv:2106.07411); the shifts on
which the study of Mamba-CLIP (arXiv:2404.19394) compares state-space with transformer towers.

How the accuracy falls with strength says what a model looks at: outlines (it bears low-pass, not high-pass), fine texture (the reverse).
Radii are in cycles a picture, so they mean the same at every input size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from diptych.core.card import Card
from diptych.evaluate import shift
from diptych.evaluate.corrupt import filters
from diptych.evaluate.details import Thumbs
from diptych.evaluate.outcome import Outcome, Question

CARD = Card(
    id="filters",
    name="Filters",
    family="protocol",
    paper="Partial success in closing the gap between human and machine vision (arXiv:2106.07411)",
    where="the parametric image distortions contrast, high-pass and low-pass",
    code="https://github.com/bethgelab/model-vs-human",
    needs=frozenset({"labels", "a model with pixels"}),
)
ORDER = 31
ASPECT = "Robustness"
SUITES = {"full": ("pictograms/zero-shot",)}
ABOUT = shift.about("filter")
VERSION = 1
STRENGTHS = {
    "blur": (filters.blur, (0.01, 0.02, 0.04, 0.08)),  # deviation, as a share of the side
    "contrast": (filters.contrast, (0.5, 0.2, 0.1, 0.05)),
    "low-pass": (filters.low_pass, (16, 8, 4, 2)),  # cycles a picture
    "high-pass": (filters.high_pass, (1, 2, 4, 8)),
}
CLEAN = {"blur": 0.0, "contrast": 1.0, "low-pass": None, "high-pass": 0.0}  # where a picture as it is stands on the axis
AXES = {
    "blur": "deviation of the blur, of the side",
    "contrast": "contrast that is left",
    "low-pass": "highest frequency kept, cycles a picture",
    "high-pass": "frequencies up to this are gone, cycles a picture",
}


def applies(question: Question) -> bool:
    """There are classes and labels, and a model that says how it reads pixels."""
    return shift.applies(question)


def run(question: Question) -> Outcome:
    """Top-1 over all filters and strengths, what is lost, what is kept, and top-1 of each filter (mean over strengths)."""
    settings = [
        shift.Setting(name, x, f"filter|{VERSION}|{name}|{x}", partial(_apply, change, x))
        for name, (change, strengths) in STRENGTHS.items()
        for x in strengths
    ]
    return shift.sweep(question, CARD.id, "filter", settings)


def _apply(change: Callable[[Tensor, float], Tensor], x: float, image_BCHW: Tensor) -> Tensor:
    return change(image_BCHW, x)


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """Top-1 against strength, one figure a filter."""
    figures, told = [], f"As they are: {outcome.show['clean']:.0%}."
    for name in STRENGTHS:
        figure = shift.curves(outcome, f"Under {name}", AXES[name], told, CLEAN[name])
        figures.append(figure | {"series": [one for one in figure["series"] if one["name"] == name]})
    return {"figures": figures}
