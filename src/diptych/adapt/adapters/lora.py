"""LoRA: a change of low rank to each query, key and value matrix of both towers, trained on the labels and merged at the end.

Papers: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685, section 4.1 (the change and its start);
Zanella and Ben Ayed, "Low-Rank Few-Shot Adaptation of Vision-Language Models" (CLIP-LoRA), arXiv:2405.18541 (which matrices,
rank 2, AdamW, against the words of the classes).
Code: https://github.com/MaxZanella/CLIP-LoRA
Relations: ``clip-svd`` changes the singular values of the same matrices; ``full-ft`` changes every weight.

Shapes: O outputs, I inputs, R rank, B pictures, K classes.

::

    down = uniform(-1 / sqrt(I), 1 / sqrt(I)) of (R, I);  up = zeros of (O, R)                      # so nothing changes at first
    matrix = parent_matrix + alpha / R * up @ down                                                  # queries, keys and values apart
    logits[b, k] = scale * image_tower(crop of picture b) · text_tower(words of class k)
    loss = mean(cross_entropy(logits[b], label[b]) for b);  AdamW on down and up, half cosine
    matrix := parent_matrix + alpha / R * up @ down                                                 # merged: an ordinary model

Other than in CLIP-LoRA: a fixed number of steps of a higher rate, where it takes 500 steps for each shot at 2e-4; nothing is dropped from
a layer's input (there 0.25); every prompt template is read in turn, where it reads one.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from diptych.adapt.attach import copy_of, linears
from diptych.adapt.attach import lora as low_rank
from diptych.adapt.parts.supervised import TOWERS, against_words, descend
from diptych.adapt.parts.work import Tuned, Work
from diptych.core.card import Card

CARD = Card(
    id="lora",
    name="LoRA",
    family="adapt",
    paper="Low-Rank Few-Shot Adaptation of Vision-Language Models, arXiv:2405.18541; LoRA, arXiv:2106.09685",
    where="its matrices, rank and training; section 4.1",
    code="https://github.com/MaxZanella/CLIP-LoRA",
    needs=frozenset({"labels", "towers"}),
    claim="low-rank changes of the attention matrices beat prompts and adapters with few labels, with one setting for all sets",
)
GRID: dict[str, tuple[object, ...]] = {}


class Options(BaseModel):
    """Settings of :func:`lora`.

    Args:
        rank: of each change.
        alpha: the change is scaled by ``alpha / rank``.
        towers: which ones change.
        steps: of the optimiser, rounded up to whole passes over the labelled pictures.
        lr: first learning rate.
        batch: pictures in a step.
        decay: AdamW's weight decay, of the two factors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    rank: int = Field(default=2, ge=1)
    alpha: float = Field(default=1.0, gt=0.0)
    towers: Literal["both", "image", "text"] = "both"
    steps: int = Field(default=200, ge=1)
    lr: float = Field(default=4e-3, gt=0.0)
    batch: int = Field(default=32, ge=1)
    decay: float = Field(default=0.01, ge=0.0)


def lora(
    work: Work,
    *,
    rank: int = 2,
    alpha: float = 1.0,
    towers: Literal["both", "image", "text"] = "both",
    steps: int = 200,
    lr: float = 4e-3,
    batch: int = 32,
    decay: float = 0.01,
) -> Tuned:
    """The merged model; see the module.

    Raises:
        UsageError: the towers have no attention matrices, or the model no tokenizer.
    """
    model = copy_of(work.model)
    attached = low_rank(model, linears(model, TOWERS[towers], ("qkv",)), work.shots.draw, rank=rank, alpha=alpha)
    numbers = attached.numbers()
    loss_of = against_words(work, model, TOWERS[towers])
    losses = descend(work, attached.parameters(), loss_of, steps=steps, lr=lr, batch=batch, decay=decay)
    return Tuned(attached.merge(), numbers, losses)
