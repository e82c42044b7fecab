"""Full fine-tuning: every weight of both towers is trained on the labels against the words of the classes.

Papers: Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv:2109.01903, section 3 (step 1, end to end from the zero-shot
model); Goyal et al., "Finetune like you pretrain" (FLYP), arXiv:2212.00638 (both towers, against the words, as in pretraining).
Code: https://github.com/mlfoundations/wise-ft, https://github.com/locuslab/FLYP
Relations: ``wise-ft`` goes part of the way back to the parent; ``lp-ft`` trains a classifier's head beside the image tower instead of the
text tower; ``lora`` and ``clip-svd`` change few numbers.

Shapes: B pictures, K classes.

::

    logits[b, k] = scale * image_tower(crop of picture b) · text_tower(words of class k)
    loss = mean(cross_entropy(logits[b], label[b]) for b);  AdamW on all weights, half cosine

There is no head: the model that comes back still names anything by words, converts, and can be mixed with its parent. As in FLYP the text
tower is trained too; FLYP contrasts the pictures of a batch with the batch's words, and counts a class that is there twice as its own
negative, which cannot be helped with few classes, so each class stands there once here. The scale and bias of the logits stay.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from diptych.adapt.parts.supervised import fine_tuned
from diptych.adapt.parts.work import Tuned, Work
from diptych.core.card import Card

CARD = Card(
    id="full-ft",
    name="Full fine-tuning",
    family="adapt",
    paper="Finetune like you pretrain, arXiv:2212.00638; Robust fine-tuning of zero-shot models, arXiv:2109.01903",
    where="its contrastive fine-tuning; section 3, step 1",
    code="https://github.com/locuslab/FLYP",
    needs=frozenset({"labels", "towers"}),
    claim="the most gain where it was trained, at the price of what the model knew elsewhere",
)
GRID: dict[str, tuple[object, ...]] = {}


class Options(BaseModel):
    """Settings of :func:`full_ft`.

    Args:
        towers: which ones are trained, with their projections.
        steps: of the optimiser, rounded up to whole passes over the labelled pictures.
        lr: first learning rate.
        batch: pictures in a step.
        decay: AdamW's weight decay.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    towers: Literal["both", "image", "text"] = "both"
    steps: int = Field(default=200, ge=1)
    lr: float = Field(default=1e-4, gt=0.0)
    batch: int = Field(default=32, ge=1)
    decay: float = Field(default=0.1, ge=0.0)


def full_ft(
    work: Work,
    *,
    towers: Literal["both", "image", "text"] = "both",
    steps: int = 200,
    lr: float = 1e-4,
    batch: int = 32,
    decay: float = 0.1,
) -> Tuned:
    """The fine-tuned model; see the module. Raises :class:`UsageError` where the model has no tokenizer."""
    return fine_tuned(work, towers, steps=steps, lr=lr, batch=batch, decay=decay)
