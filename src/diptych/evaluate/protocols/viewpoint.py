"""Viewpoint: naming of turned, sheared and scaled pictures.

Paper: Tu, Deng and Gedeon, Toward a Holistic Evaluation of Robustness in CLIP Models (arXiv:2410.01534), the factors pose and size; in the
plane alone, as far as an affine map of a flat picture can go. What comes in from outside repeats the edge.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from diptych.core.card import Card
from diptych.evaluate import shift
from diptych.evaluate.corrupt.geometry import affine
from diptych.evaluate.details import Thumbs
from diptych.evaluate.outcome import Outcome, Question

CARD = Card(
    id="viewpoint",
    name="Viewpoint",
    family="protocol",
    paper="Toward a Holistic Evaluation of Robustness in CLIP Models (arXiv:2410.01534)",
    where="visual factors",
    needs=frozenset({"labels", "a model with pixels"}),
)
ORDER = 32
ASPECT = "Robustness"
SUITES = {"full": ("pictograms/zero-shot",)}
ABOUT = shift.about("viewpoint")
VERSION = 1
STRENGTHS = {
    "degrees": (-90, -45, -30, -15, 15, 30, 45, 90, 180),
    "shear": (-0.5, -0.25, 0.25, 0.5),
    "scale": (0.35, 0.5, 0.7, 1.4, 2.0),
}
NAMES = {"degrees": "rotation", "shear": "shear", "scale": "scale"}
AXES = {"degrees": "degrees, counter-clockwise", "shear": "shift of the top against the bottom, of the height", "scale": "size"}


def applies(question: Question) -> bool:
    """There are classes and labels, and a model that says how it reads pixels."""
    return shift.applies(question)


def run(question: Question) -> Outcome:
    """Top-1 over all views, what is lost, what is kept, and top-1 of rotation, shear and scale."""
    settings = [
        shift.Setting(NAMES[name], x, f"viewpoint|{VERSION}|{name}|{x}", partial(affine, **{name: x}))
        for name, strengths in STRENGTHS.items()
        for x in strengths
    ]
    return shift.sweep(question, CARD.id, "viewpoint", settings)


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """Top-1 against angle, shear and size."""
    figures = []
    for key, name in NAMES.items():
        figure = shift.curves(outcome, name.capitalize(), AXES[key], "", 1.0 if key == "scale" else 0.0, log=key == "scale")
        figures.append(figure | {"series": [one for one in figure["series"] if one["name"] == name]})
    return {"figures": figures}
