"""CoCoOp: a small network on the picture's row moves the learned context, so that each picture has a prompt of its own.

Paper: Zhou et al., "Conditional Prompt Learning for Vision-Language Models", CVPR 2022, arXiv:2203.05557 (the context moved by a meta-net).
Code: https://github.com/KaiyangZhou/CoOp
Relations: ``coop`` without the network; ``mocoop`` chooses among a few contexts instead.

Shapes: S labelled pictures, K classes, M context tokens, W width of the text tower, D joint width, H hidden width, B pictures.

::

    move[s] = up @ relu(down @ image[s] + down_bias) + up_bias                     # the meta-net, W numbers
    text[s, k] = unit(text_tower(context[1] + move[s], …, context[M] + move[s], name[k], "."))
    loss = mean(-log softmax(scale * image[s] · text[s, k] over k)[label[s]] for s in batch)
    context, down, up and their biases <- SGD step

Every picture encodes every class name anew, in training and afterwards: the cost grows with pictures times classes. The model keeps a rule,
which works for any names. Image rows are computed once, since the image tower is frozen; the paper's random crops are left out with that.

Paper: 4 tokens that begin as "a photo of a", H = D / 16, SGD with learning rate 0.002 falling along a cosine after one epoch at 1e-5,
one picture a step, 10 epochs. Here the context begins as the template in use. Weights of the network begin as linear layers usually do:
uniform within 1 / sqrt(inputs).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.context import AFTER, PIECE, Names, frozen, start
from diptych.adapt.parts.train import fit
from diptych.adapt.parts.work import Tuned, Work
from diptych.core.card import Card
from diptych.towers.rule import Answer, Rule, RuleConfig

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder

CARD = Card(
    id="cocoop",
    name="CoCoOp",
    family="adapt",
    paper="Conditional Prompt Learning for Vision-Language Models, arXiv:2203.05557",
    where="conditional context optimization",
    code="https://github.com/KaiyangZhou/CoOp",
    needs=frozenset({"labels", "towers"}),
    claim="a context that depends on the picture serves classes that it was not learned on better than a fixed one",
    published="new classes 71.69 against 63.22 of CoOp, base classes 80.47 against 82.69, mean of 11 sets (table 1)",
)
GRID: dict[str, tuple[float, ...]] = {}


class Options(BaseModel):
    """Settings of :func:`cocoop`.

    Args:
        context: tokens in front of the class name.
        words: what the last of them are at first; "" begins with random ones, None with those of the template in use.
        reduce: how much narrower than the row the network is inside.
        epochs: passes over the labelled pictures.
        lr: first learning rate.
        batch: pictures of a step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    context: int = Field(default=4, ge=1)
    words: str | None = None
    reduce: int = Field(default=16, ge=1)
    epochs: int = Field(default=10, ge=1)
    lr: float = Field(default=0.002, gt=0.0)
    batch: int = Field(default=1, ge=1)


def cocoop(
    work: Work, *, context: int = 4, words: str | None = None, reduce: int = 16, epochs: int = 10, lr: float = 0.002, batch: int = 1
) -> Tuned:
    """The model with a rule that answers for any names; see the module.

    Raises:
        UsageError: the model reads prompts already or cannot name classes, or the context is too long.
    """
    shots, model = work.shots, frozen(work)
    names = Names(model, [AFTER.replace("{}", name) for name in shots.classes], context)
    hidden, width = max(1, shots.width // reduce), model.text.width
    learned = {"context": start(model, words, context, shots.draw, shots.templates)}
    for name, rows, inputs in (("down", hidden, shots.width), ("up", width, hidden)):
        for part, shape in ((name, (rows, inputs)), (f"{name}_bias", (rows,))):
            learned[part] = ((2 * torch.rand(shape, generator=shots.draw) - 1) / math.sqrt(inputs)).to(model.device)
    for value in learned.values():
        value.requires_grad_()
    image_SD, label_S = shots.image_SD.to(model.device), shots.label_S.to(model.device)

    def loss_of(index_B: Tensor) -> Tensor:
        return F.cross_entropy(shots.scale * told(names, image_SD[index_B], learned), label_S[index_B])

    settings = {"epochs": epochs, "lr": lr, "batch": batch, "warm": 1, "momentum": 0.9, "weight_decay": 5e-4}
    losses = fit(list(learned.values()), loss_of, len(label_S), shots.draw, **settings)  # type: ignore[arg-type]
    rule = Rule.of(RuleConfig(method=CARD.id, options={"scale": shots.scale}), **{name: value.cpu() for name, value in learned.items()})
    return Tuned(work.model.with_head(None).with_rule(rule.to(model.device)), rule.numbers(), losses)


def contexts(image_BD: Tensor, numbers: dict[str, Tensor]) -> Tensor:
    """The context of each picture, (B, M, W)."""
    hidden_BH = F.relu(F.linear(image_BD, numbers["down"], numbers["down_bias"]))
    return numbers["context"] + F.linear(hidden_BH, numbers["up"], numbers["up_bias"])[:, None]


def told(names: Names, image_BD: Tensor, numbers: dict[str, Tensor]) -> Tensor:
    """Similarities (B, K) of pictures with the names behind their own contexts."""
    return torch.einsum("bd,bkd->bk", image_BD, names.each(contexts(image_BD, numbers)))


def answer(model: DualEncoder, labels: tuple[str, ...], numbers: dict[str, Tensor], **options: Any) -> Answer:
    """Scaled similarities; see the module."""
    names = Names(model, [AFTER.replace("{}", name) for name in labels], len(numbers["context"]))
    each = max(1, PIECE // len(labels))

    @torch.no_grad()
    def logits(image_BD: Tensor) -> Tensor:
        rows_BD = image_BD.to(numbers["context"])
        return options["scale"] * torch.cat([told(names, part, numbers).float() for part in rows_BD.split(each)])

    return Answer(logits)
