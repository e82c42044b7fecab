"""Linear probe that starts at the words: multinomial logistic regression pulled towards the zero-shot classifier.

Paper: Radford et al. (arXiv:2103.00020), its linear probes (L-BFGS on frozen rows); the start at the text rows after Wortsman et al.,
WiSE-FT (arXiv:2109.01903), section 3, where a linear classifier alone is fine-tuned; the pull towards them is this file's.
Relations: ``gda-clip`` gives the same form in closed form.

Shapes: S labelled pictures, K classes, D joint width.

::

    start[k] = scale * text[k]                                   # zeros where from_words is off
    loss = mean(cross_entropy(image[s] @ weight.T + bias, label[s]) for s) + ridge / 2 * sum((weight - start) ** 2)
    weight, bias = L-BFGS(loss), from (start, 0)

The bias is not penalised. A large ridge gives the zero-shot classifier (or, from zeros, the class shares).
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field

from diptych.adapt.parts.logistic import fit
from diptych.adapt.parts.shots import Shots
from diptych.core.card import Card
from diptych.towers.head import Head

CARD = Card(
    id="linear-probe",
    name="Linear probe from the words",
    family="adapt",
    paper="Learning Transferable Visual Models From Natural Language Supervision, arXiv:2103.00020",
    where="linear probes",
    needs=frozenset({"labels"}),
    claim="a linear classifier on frozen rows; started at the words it does not fall below zero-shot with few labels",
)
GRID = {"ridge": (1e-5, 1e-4, 1e-3, 1e-2)}


class Options(BaseModel):
    """Settings of :func:`linear_probe`.

    Args:
        ridge: strength of the pull, with the loss as a mean.
        from_words: start at and pull towards the zero-shot classifier; off: zeros.
        steps: most iterations of L-BFGS.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    ridge: float = Field(default=1e-4, gt=0.0)
    from_words: bool = True
    steps: int = Field(default=200, ge=1)


def linear_probe(shots: Shots, *, ridge: float = 1e-4, from_words: bool = True, steps: int = 200) -> Head:
    """The head; see the module. Fitted in float64; deterministic."""
    start_KD = shots.scale * shots.text_KD.double() if from_words else torch.zeros_like(shots.text_KD, dtype=torch.float64)
    weight_KD, bias_K = fit(shots.image_SD.double(), shots.label_S, start_KD, ridge, steps)
    return shots.linear(weight_KD.float(), bias_K.float(), made_by=f"linear-probe, ridge {ridge:g}")
