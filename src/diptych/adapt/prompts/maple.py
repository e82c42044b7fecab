"""MaPLe: prompts in the first layers of the text tower, and in the image tower what coupling functions make of them.

Paper: Khattak et al., "MaPLe: Multi-modal Prompt Learning", CVPR 2023, arXiv:2210.03117 (deep language prompting, deep
vision prompting, their coupling).
Code: https://github.com/muzairkhattak/multimodal-prompt-learning
Relations: ``coop`` learns the text's input alone; ``promptsrc`` learns both towers' prompts apart and holds them near the parent.

Shapes: K classes, J layers, M tokens, W width of the text tower, V of the image tower, D joint width, B pictures of a step.

::

    vision[j] = text[j] @ coupling[j].weight.T + coupling[j].bias              # for j in 0 … J − 1
    row[k] = unit(text_tower(name[k]; text[0] at the input, text[j] in the place of what block j − 1 made of them))
    picture[b] = unit(image_tower(x[b]; vision likewise))
    loss = mean(cross_entropy(scale * picture[b] · row over k, label[b]) for b)
    text, coupling <- SGD step

With ``vision`` off, the image tower stays as it is and the prompts are those of the text alone: the paper's "deep language prompting", with
which it compares. Pictures go through the image tower at every step, cropped and mirrored at random (half to all of the area; the paper
crops to 8% and more).

Paper: 2 tokens, which begin as the first tokens of "a photo of a" at the input and from a normal distribution of deviation 0.02 deeper; 9
of 12 layers; SGD with learning rate 0.0035 falling along a cosine after one epoch at 1e-5, 5 epochs, batches of 4. Coupling functions begin
as linear layers of torch do. Here the words are those of the template in use, 9 of 12 layers is three quarters of the blocks of the
shallower tower, and a full stop follows the name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.deep import Deep, begun, depth_of, random_layers, reading
from diptych.adapt.parts.train import fit
from diptych.adapt.parts.work import Tuned, Work
from diptych.core.card import Card

CARD = Card(
    id="maple",
    name="MaPLe",
    family="adapt",
    paper="MaPLe: Multi-modal Prompt Learning, arXiv:2210.03117",
    where="deep language and vision prompting, and their coupling",
    code="https://github.com/muzairkhattak/multimodal-prompt-learning",
    needs=frozenset({"labels", "towers"}),
    claim="coupled deep prompts in both towers beat prompts of the text alone in the harmonic mean of base and new classes",
    published="+3.45 points on new classes and +2.72 in the harmonic mean over CoCoOp, 11 sets, 16 shots (ViT-B/16)",
)
GRID = {"lr": (0.0035, 0.02)}


class Options(BaseModel):
    """Settings of :func:`maple`.

    Args:
        context: M.
        depth: J; None is three quarters of the blocks of the shallower tower.
        vision: off, only the text tower gets prompts.
        words: what the text's input prompts are at first, as far as they go; "" random ones, None those of the template in use.
        epochs: passes over the labelled pictures.
        lr: first learning rate.
        batch: pictures of a step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    context: int = Field(default=2, ge=1)
    depth: int | None = Field(default=None, ge=1)
    vision: bool = True
    words: str | None = None
    epochs: int = Field(default=5, ge=1)
    lr: float = Field(default=0.0035, gt=0.0)
    batch: int = Field(default=4, ge=1)


def coupled(text: Sequence[Tensor], weight: Sequence[Tensor], bias: Sequence[Tensor]) -> list[Tensor]:
    """Vision prompts, each (M, V), of the text's, each (M, W), by couplings (V, W) and (V,); none where there are no couplings."""
    return [F.linear(prompt_MW, w_VW, b_V) for prompt_MW, w_VW, b_V in zip(text, weight, bias, strict=False)]


def maple(
    work: Work,
    *,
    context: int = 2,
    depth: int | None = None,
    vision: bool = True,
    words: str | None = None,
    epochs: int = 5,
    lr: float = 0.0035,
    batch: int = 4,
) -> Tuned:
    """The model with the learned prompts; see the module.

    Raises:
        UsageError: the model reads prompts already, cannot name classes, or has too few blocks or places for the prompts.
    """
    shots, layers = work.shots, depth_of(work.model, depth, ("image", "text") if vision else ("text",))
    deep = Deep.of(work, context)
    model, draw = deep.model, shots.draw
    wide, narrow = model.image.width if vision else 0, model.text.width
    text = [begun(model, words, context, draw, shots.templates), *random_layers(layers - 1, context, narrow, draw)]
    bound = 1 / math.sqrt(narrow)
    weight = [(torch.rand(wide, narrow, generator=draw) * 2 - 1) * bound for _ in range(layers if vision else 0)]
    bias = [(torch.rand(wide, generator=draw) * 2 - 1) * bound for _ in range(layers if vision else 0)]
    text, weight, bias = ([one.to(model.device).requires_grad_() for one in some] for some in (text, weight, bias))
    label_S = shots.label_S.to(model.device)

    def loss_of(index_B: Tensor) -> Tensor:
        image_BD = deep.image(work.pictures(index_B, draw), coupled(text, weight, bias))
        return F.cross_entropy(shots.scale * image_BD @ deep.text(text).T, label_S[index_B])

    learned = [*text, *weight, *bias]
    losses = fit(learned, loss_of, len(label_S), draw, epochs=epochs, lr=lr, batch=batch, warm=1, momentum=0.9, weight_decay=5e-4)
    made_by = f"maple, {context} tokens in {layers} layers{'' if vision else ' of the text alone'}, {epochs} epochs"
    made = reading(work.model, text, coupled(text, weight, bias), made_by)
    return Tuned(made, sum(one.numel() for one in learned), losses)
