"""Resolution: naming of pictures with fewer pixels, enlarged to the model's input.

Paper: Touvron et al., Fixing the train-test resolution discrepancy (arXiv:1906.06423), section 3, asks what a change of resolution between
training and test costs; here the picture loses its detail (made smaller and as large again, bicubic, antialiased) and fills the input as in
training, so what is measured is the detail a model needs, not the size at which it saw things.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from diptych.core.card import Card
from diptych.evaluate import shift
from diptych.evaluate.corrupt.geometry import resolution
from diptych.evaluate.details import Thumbs
from diptych.evaluate.outcome import Outcome, Question

CARD = Card(
    id="resolution",
    name="Resolution",
    family="protocol",
    paper="Fixing the train-test resolution discrepancy (arXiv:1906.06423)",
    where="section 3",
    needs=frozenset({"labels", "a model with pixels"}),
)
ORDER = 33
ASPECT = "Robustness"
SUITES = {"full": ("pictograms/zero-shot",)}
ABOUT = shift.about("resolution")
VERSION = 1
SHARES = (0.75, 0.5, 0.375, 0.25, 0.125)


def applies(question: Question) -> bool:
    """There are classes and labels, and a model that says how it reads pixels."""
    return shift.applies(question)


def run(question: Question) -> Outcome:
    """Top-1 over all resolutions, what is lost, what is kept."""
    settings = [shift.Setting("resolution", x, f"resolution|{VERSION}|{x}", partial(resolution, share=x)) for x in SHARES]
    return shift.sweep(question, CARD.id, "resolution", settings)


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """Top-1 against the share of the side that is left."""
    told = "Each picture made smaller, then as large as the model's input again."
    return {"figures": [shift.curves(outcome, "Resolution", "share of the side", told, 1.0)]}
