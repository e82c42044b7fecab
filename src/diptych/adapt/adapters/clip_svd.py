"""CLIP-SVD: of every attention and MLP matrix of both towers only the singular values are trained, and put back into the matrix at the end.

Paper: Koleilat, Rivaz and Xiao, "Singular Value Few-shot Adaptation of Vision-Language Models", arXiv:2509.03740.
Code: https://github.com/HealthX-Lab/CLIP-SVD
Relations: ``lora`` adds directions of its own to the attention matrices; this only weighs those that are there. ``full-ft`` changes all.

Shapes: O outputs, I inputs, R = min(O, I) singular values, B pictures, K classes.

::

    left, value, right = svd(parent_matrix)                            # queries, keys, values, output, and both matrices of the MLP, apart
    change = zeros of (R)                                              # so nothing changes at first, exactly
    matrix = parent_matrix + left @ diag(change) @ right               # = left @ diag(value + change) @ right
    logits[b, k] = scale * image_tower(crop of picture b) · text_tower(words of class k)
    loss = mean(cross_entropy(logits[b], label[b]) for b);  AdamW on change, half cosine
    matrix := parent_matrix + left @ diag(change) @ right              # merged: an ordinary model

The paper trains the values themselves; training their change from zero is the same but for weight decay, which here pulls towards the
parent's values and not towards zero, and leaves the parent's numbers as they are at the start. A gated MLP's two matrices in one count as
one. What the code sets by data set (1 to 200 epochs, a rate of 4e-4 to 2e-2, a decay of 0 or 0.01) is one setting here.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from diptych.adapt.attach import copy_of, linears, singular_values
from diptych.adapt.parts.supervised import TOWERS, against_words, descend
from diptych.adapt.parts.work import Tuned, Work
from diptych.core.card import Card

CARD = Card(
    id="clip-svd",
    name="CLIP-SVD",
    family="adapt",
    paper="Singular Value Few-shot Adaptation of Vision-Language Models, arXiv:2509.03740",
    where="singular values of the attention and MLP matrices",
    code="https://github.com/HealthX-Lab/CLIP-SVD",
    needs=frozenset({"labels", "towers"}),
    claim="singular values alone (0.04% of the numbers) adapt both towers with few labels and keep what the model knew",
    published="16 shots 82.97 against 82.89 of CLIP-LoRA and 79.01 of CoOp, mean of 11 sets; 0.04% of the numbers (the code's README)",
)
GRID: dict[str, tuple[object, ...]] = {}


class Options(BaseModel):
    """Settings of :func:`clip_svd`.

    Args:
        towers: which ones change.
        steps: of the optimiser, rounded up to whole passes over the labelled pictures.
        lr: first learning rate.
        batch: pictures in a step.
        decay: AdamW's weight decay, of the changes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    towers: Literal["both", "image", "text"] = "both"
    steps: int = Field(default=200, ge=1)
    lr: float = Field(default=1e-2, gt=0.0)
    batch: int = Field(default=32, ge=1)
    decay: float = Field(default=0.0, ge=0.0)


def clip_svd(
    work: Work,
    *,
    towers: Literal["both", "image", "text"] = "both",
    steps: int = 200,
    lr: float = 1e-2,
    batch: int = 32,
    decay: float = 0.0,
) -> Tuned:
    """The merged model; see the module.

    Raises:
        UsageError: the towers' blocks have no matrices, or the model no tokenizer.
    """
    model = copy_of(work.model)
    attached = singular_values(model, linears(model, TOWERS[towers]))
    numbers = attached.numbers()
    loss_of = against_words(work, model, TOWERS[towers])
    losses = descend(work, attached.parameters(), loss_of, steps=steps, lr=lr, batch=batch, decay=decay)
    return Tuned(attached.merge(), numbers, losses)
