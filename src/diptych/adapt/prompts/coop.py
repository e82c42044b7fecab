"""CoOp: the words in front of the class names are learned, with both towers frozen.

Paper: Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022, arXiv:2109.01134 (unified and class-specific context).
Code: https://github.com/KaiyangZhou/CoOp
Relations: ``cocoop`` makes the context depend on the picture; ``biomedcoop`` and ``promptsrc`` hold it near what words say;
``linear-probe`` learns the class rows themselves.

Shapes: S labelled pictures, K classes, M context tokens, W width of the text tower, D joint width, B pictures of a step.

::

    text[k] = unit(text_tower(context[1], …, context[M], name[k], "."))       # context[k, 1], … where each class has its own
    loss = mean(-log softmax(scale * image[s] · text[k] over k)[label[s]] for s in batch)
    context <- SGD step

The image tower is frozen, so its rows are computed once; the paper's random crops and mirrored pictures are left out with that. Names are
encoded in pieces of like length. The unified context is kept as the model's prompts and serves any class name; a context for each class
serves only its class, so what is kept is a linear head with the classes' rows.

Paper: 16 context tokens from a normal distribution of deviation 0.02 (here ``context=16, words=""``), or the 4 of "a photo of a"; here 4
that begin as the template in use. SGD with learning rate 0.002 falling along a cosine after one epoch at 1e-5, batches of 32; 200, 100 or
50 epochs (16 and 8, 4 and 2, 1 shot), 50 on ImageNet. The class name stands at the end here; the paper also tries the middle.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.context import AFTER, Names, frozen, prompted, start
from diptych.adapt.parts.train import fit
from diptych.adapt.parts.work import Tuned, Work
from diptych.core.card import Card

CARD = Card(
    id="coop",
    name="CoOp",
    family="adapt",
    paper="Learning to Prompt for Vision-Language Models, arXiv:2109.01134",
    where="context optimization",
    code="https://github.com/KaiyangZhou/CoOp",
    needs=frozenset({"labels", "towers"}),
    claim="few-shot accuracy of a learned context exceeds hand-made prompts from 1 or 2 shots on and grows to 16",
    published="about +15 points over hand-made prompts at 16 shots on the average of 11 sets, over +45 at best",
)
GRID: dict[str, tuple[float, ...]] = {}


class Options(BaseModel):
    """Settings of :func:`coop`.

    Args:
        context: tokens in front of the class name.
        words: what the last of them are at first; "" begins with random ones, None with those of the template in use.
        own: each class has a context of its own.
        epochs: passes over the labelled pictures.
        lr: first learning rate.
        batch: pictures of a step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    context: int = Field(default=4, ge=1)
    words: str | None = None
    own: bool = False
    epochs: int = Field(default=50, ge=1)
    lr: float = Field(default=0.002, gt=0.0)
    batch: int = Field(default=32, ge=1)


def coop(
    work: Work, *, context: int = 4, words: str | None = None, own: bool = False, epochs: int = 50, lr: float = 0.002, batch: int = 32
) -> Tuned:
    """The model with the learned prompts, or with a head where each class has its own; see the module.

    Raises:
        UsageError: the model reads prompts already or cannot name classes, or the context is too long.
    """
    shots, model = work.shots, frozen(work)
    names = Names(model, [AFTER.replace("{}", name) for name in shots.classes], context)
    learned = start(model, words, context, shots.draw, shots.templates)
    learned = learned.expand(len(shots.classes), -1, -1).clone() if own else learned
    learned.requires_grad_()
    image_SD, label_S = shots.image_SD.to(model.device), shots.label_S.to(model.device)

    def loss_of(index_B: Tensor) -> Tensor:
        return F.cross_entropy(shots.scale * image_SD[index_B] @ names.rows(learned).T, label_S[index_B])

    losses = fit([learned], loss_of, len(label_S), shots.draw, epochs=epochs, lr=lr, batch=batch, warm=1, momentum=0.9, weight_decay=5e-4)
    made_by = f"coop, {context} tokens, {'own contexts' if own else 'one context'}, {epochs} epochs"
    if not own:
        return Tuned(prompted(work.model, learned, made_by), learned.numel(), losses)
    with torch.no_grad():
        head = shots.linear(shots.scale * names.rows(learned).cpu(), made_by=made_by)
    return Tuned(work.model.with_rule(None).with_head(head.to(model.device)), learned.numel(), losses)
