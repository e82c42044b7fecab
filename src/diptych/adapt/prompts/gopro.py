"""GOPro: the picture's content and style write the words before the class, and views of one picture have to agree on them.

Paper: Singha, Jha, Banerjee, "GOPro: Generate and Optimize Prompts in CLIP using Self-Supervised Learning", BMVC 2023, arXiv:2308.11605
(prompt generation; cross-domain contrastive, visual contrastive and prompt consistency losses).
Code: https://github.com/mainaksingha01/GOPro
Relations: ``cocoop`` moves the context by the picture's row alone and asks nothing of views.

Shapes: B pictures, K classes, L blocks of the image tower, T its tokens, V its width, W width of the text tower, M context tokens, D joint
width.

::

    content[b, l] = mean of x over the T tokens after block l;  style[b, l] = (content[b, l] + deviation of x over the tokens) / 2
    word[b, l] = (S[l] style[b, l] + s[l] + C[l] content[b, l] + c[l]) / 2
    context[b, m] = learned[m] + sum(mix[l] * word[b, l] for l) + shift
    text[b, k] = text_tower(context[b], name[k]);  both rows are projected: picture = unit(P row),  words = unit(Q text)
    loss = mean(cross_entropy(scale * picture[b] · words[b] over k, label[b]))
         + consistency * (mean((text - text of the first view)²) + mean((text - text of the second)²))
         + contrast * NT-Xent(picture, picture of the first view; temperature 0.1)

The first view is MoCo v3's without its blur (crops, colours, grey, mirror), the second AugMix's: three changed pictures in random shares,
mixed with the picture cropped. Both towers are frozen. The context depends on the picture, which no prompts of a model and no head hold, so
what is kept is a rule that reads pixels and answers for any names.

The code's projector of pictures is a layer and a batch norm that serve the visual loss alone, and it has none of words; its second view of
a whole batch is mixed from the first picture. Here, as the abstract says, a projector of pictures and one of words stand on top of the
towers, so in the answer; both begin as the identity. ``mix`` and ``shift`` begin at zero, so that training begins with the learned
context's words; the code begins as torch does, with words that the picture throws about. SGD with learning rate 0.002 falling along a
cosine after one epoch at 1e-5, 50 epochs of batches of 4 from "a photo of a"; here 10 epochs, and the words of the template in use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.context import AFTER, PIECE, Names, frozen, start
from diptych.adapt.parts.train import fit
from diptych.adapt.parts.two_views import contrastive, two_views
from diptych.adapt.parts.work import Tuned, Work
from diptych.core.card import Card
from diptych.core.types import Tokens
from diptych.towers.rule import Answer, Rule, RuleConfig

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder

CARD = Card(
    id="gopro",
    name="GOPro",
    family="adapt",
    paper="GOPro: Generate and Optimize Prompts in CLIP using Self-Supervised Learning, arXiv:2308.11605",
    where="prompt generation and the three losses",
    code="https://github.com/mainaksingha01/GOPro",
    needs=frozenset({"labels", "towers"}),
    claim="prompts of content and style with three losses name pictures of unseen styles better than cross-entropy prompts",
    published="better than the best prompting before it on three domain-generalisation tasks, by a significant margin (abstract)",
)
GRID: dict[str, tuple[float, ...]] = {}


class Options(BaseModel):
    """Settings of :func:`gopro`.

    Args:
        context: M.
        consistency, contrast: weights of the two losses on views.
        words: what the last of the context's tokens are at first; "" random ones, None those of the template in use.
        epochs: passes over the labelled pictures.
        lr: first learning rate.
        batch: pictures of a step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    context: int = Field(default=4, ge=1)
    consistency: float = Field(default=1.0, ge=0.0)
    contrast: float = Field(default=0.1, ge=0.0)
    words: str | None = None
    epochs: int = Field(default=10, ge=1)
    lr: float = Field(default=0.002, gt=0.0)
    batch: int = Field(default=4, ge=1)


@dataclass
class Watch:
    """Mean and deviation over the tokens after each block, as a token method that changes nothing."""

    mean: list[Tensor] = field(default_factory=list)
    deviation: list[Tensor] = field(default_factory=list)
    name = "gopro"

    def after_embed(self, tokens: Tokens) -> Tokens:
        return tokens

    def after_block(self, index: int, tokens: Tokens) -> Tokens:
        self.mean.append(tokens.x_BTD.mean(1))
        self.deviation.append(tokens.x_BTD.var(1, correction=0).add(1e-8).sqrt())
        return tokens


@torch.no_grad()
def seen(model: DualEncoder, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Unit rows (B, D), content and style (B, L, V) of uint8 pictures. Raises :class:`UsageError` for a tower without blocks."""
    watch = Watch()
    row_BD = model.image_features(pixels_BCHW.to(model.device), tokens=watch)
    content_BLV, deviation_BLV = torch.stack(watch.mean, 1), torch.stack(watch.deviation, 1)
    return row_BD, content_BLV, (content_BLV + deviation_BLV) / 2


def contexts(content_BLV: Tensor, style_BLV: Tensor, numbers: dict[str, Tensor]) -> Tensor:
    """The context of each picture, (B, M, W)."""
    word_BLW = torch.einsum("blv,lwv->blw", style_BLV, numbers["style"]) + numbers["style_bias"]
    word_BLW = word_BLW + torch.einsum("blv,lwv->blw", content_BLV, numbers["content"]) + numbers["content_bias"]
    moved_BW = torch.einsum("l,blw->bw", numbers["mix"], word_BLW / 2) + numbers["shift"]
    return numbers["context"] + moved_BW[:, None]


def projected(row: Tensor, matrix_DD: Tensor) -> Tensor:
    """Unit rows behind a projector."""
    return F.normalize(row @ matrix_DD.T, dim=-1)


def three(row_ND: Tensor, text_NKD: Tensor, label_B: Tensor, numbers: dict[str, Tensor], scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-domain, prompt consistency and visual contrastive loss of B pictures, their first and their second views; N = 3 B."""
    text_BKD, first_BKD, second_BKD = text_NKD.chunk(3)
    picture_BD, view_BD, _ = projected(row_ND, numbers["image"]).chunk(3)
    told_BK = scale * torch.einsum("bd,bkd->bk", picture_BD, projected(text_BKD, numbers["text"]))
    agree = F.mse_loss(text_BKD, first_BKD) + F.mse_loss(text_BKD, second_BKD)
    return F.cross_entropy(told_BK, label_B), agree, contrastive(picture_BD, view_BD)


def first_numbers(work: Work, model: DualEncoder, context: int, words: str | None) -> dict[str, Tensor]:
    """What training begins with."""
    shots, blocks, wide, narrow = work.shots, len(model.image.blocks), model.image.width, model.text.width
    made = {"context": start(model, words, context, shots.draw, shots.templates), "mix": torch.zeros(blocks), "shift": torch.zeros(narrow)}
    for name in ("style", "content"):
        for part, shape in ((name, (blocks, narrow, wide)), (f"{name}_bias", (blocks, narrow))):
            made[part] = (torch.rand(shape, generator=shots.draw) * 2 - 1) / math.sqrt(wide)
    made |= {name: torch.eye(shots.width) for name in ("image", "text")}
    return {name: value.to(model.device).requires_grad_() for name, value in made.items()}


def gopro(
    work: Work,
    *,
    context: int = 4,
    consistency: float = 1.0,
    contrast: float = 0.1,
    words: str | None = None,
    epochs: int = 10,
    lr: float = 0.002,
    batch: int = 4,
) -> Tuned:
    """The model with a rule that answers for any names; see the module.

    Raises:
        UsageError: the image tower has no blocks, or the model reads prompts already, cannot name classes, or has no room for the context.
    """
    shots, model = work.shots, frozen(work)
    names = Names(model, [AFTER.replace("{}", name) for name in shots.classes], context)
    numbers, label_S = first_numbers(work, model, context, words), shots.label_S.to(model.device)

    def loss_of(index_B: Tensor) -> Tensor:
        pixels_BCHW = work.pictures(index_B, shots.draw)
        row_ND, content_NLV, style_NLV = seen(model, torch.cat([pixels_BCHW, *two_views(pixels_BCHW, shots.draw)]))
        text_NKD = names.each(contexts(content_NLV, style_NLV, numbers))
        named, agree, alike = three(row_ND, text_NKD, label_S[index_B], numbers, shots.scale)
        return named + consistency * agree + contrast * alike

    settings = {"epochs": epochs, "lr": lr, "batch": batch, "warm": 1, "momentum": 0.9, "weight_decay": 5e-4}
    losses = fit(list(numbers.values()), loss_of, len(label_S), shots.draw, **settings)  # type: ignore[arg-type]
    config = RuleConfig(method=CARD.id, options={"scale": shots.scale}, reads="pixels")
    rule = Rule.of(config, **{name: value.detach().cpu() for name, value in numbers.items()}).to(model.device)
    return Tuned(work.model.with_head(None).with_rule(rule), rule.numbers(), losses)


def answer(model: DualEncoder, labels: tuple[str, ...], numbers: dict[str, Tensor], **options: Any) -> Answer:
    """Scaled similarities of the picture with the names behind its own context."""
    names = Names(model, [AFTER.replace("{}", name) for name in labels], len(numbers["context"]))

    @torch.no_grad()
    def told(pixels_BCHW: Tensor) -> Tensor:
        row_BD, content_BLV, style_BLV = seen(model, pixels_BCHW)
        text_BKD = projected(names.each(contexts(content_BLV, style_BLV, numbers)), numbers["text"])
        return options["scale"] * torch.einsum("bd,bkd->bk", projected(row_BD, numbers["image"]), text_BKD).float()

    return Answer(lambda pixels_BCHW: torch.cat([told(part) for part in pixels_BCHW.split(max(1, PIECE // len(labels)))]))
