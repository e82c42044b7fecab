"""Prompts: learned tokens that a tower reads beside its own, at its input and before its first blocks.

Papers: context of the text tower, Zhou et al. (CoOp), arXiv:2109.01134, section 3.2; tokens of the image tower at the input and deeper,
Jia et al. (VPT), arXiv:2203.12119, section 3.2; both in several blocks, Khattak et al. (MaPLe), arXiv:2210.03117, section 3.2.

In a text they stand behind the start token (in front, where texts have none): place holders are put there, so every other token keeps its
meaning and moves on; a text that is then too long loses words at its end, its closing token stays. In a picture they follow the last token
and are taken away before pooling. Tokens of layer 0 go in at the input; those of layer ``i`` replace what block ``i - 1`` made of them.

Shapes: B rows, L text length, T tokens, M prompt tokens, D width of a tower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from diptych.core.errors import UsageError

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder


@dataclass(frozen=True, slots=True)
class Inserted:
    """Prompt tokens on their way through one tower.

    Args:
        layers: one tensor for each of the first layers, each (M, D), or (B, M, D) where every row has its own.
        at: index of the first one among the tokens; None is behind the last.
        same: every text has the same tokens before ``at`` (its start); a causal tower then passes those and the prompts through its blocks
            once for all texts.
    """

    layers: tuple[Tensor, ...]
    at: int | None = None
    same: bool = False

    @property
    def first(self) -> int:
        """How many tokens all texts begin with: up to the last prompt where they have one set of prompts, else 0."""
        if not self.same or self.at is None or any(layer.ndim != 2 for layer in self.layers):
            return 0
        return self.at + self.count

    @property
    def count(self) -> int:
        """M."""
        return self.layers[0].shape[-2]

    def put(self, index: int, x_BTD: Tensor) -> Tensor:
        """The input of block ``index`` with this layer's tokens in their place; as it is where the layer has none."""
        if index >= len(self.layers):
            return x_BTD
        here = self.layers[index].to(x_BTD.dtype)
        here_BMD = here.expand(len(x_BTD), *here.shape[-2:])
        if self.at is None:
            own_BTD = x_BTD if index == 0 else x_BTD[:, : -self.count]
            return torch.cat([own_BTD, here_BMD], dim=1)
        return torch.cat([x_BTD[:, : self.at], here_BMD, x_BTD[:, self.at + self.count :]], dim=1)

    def check(self, tower: str, blocks: int) -> None:
        """A :class:`UsageError` where there are more layers than the tower has blocks, so that some would be read by none."""
        if len(self.layers) > blocks:
            raise UsageError(f"prompts in {len(self.layers)} layers of tower {tower!r}", f"it has {blocks} blocks", f"Use at most {blocks}")

    def take_away(self, x_BTD: Tensor) -> Tensor:
        """Tokens without those behind the last."""
        return x_BTD[:, : -self.count] if self.at is None else x_BTD


class PromptConfig(BaseModel):
    """What decides a model's prompts besides their numbers.

    Args:
        text, image: prompt tokens M of each tower; 0 leaves it as it is.
        text_layers, image_layers: how many of a tower's layers have tokens of their own, the input first.
        share: how far rows go from the parent's (0) to the prompted ones (1).
        made_by: the method's id and options, for reports.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    text: int = Field(default=0, ge=0)
    text_layers: int = Field(default=1, ge=1)
    image: int = Field(default=0, ge=0)
    image_layers: int = Field(default=1, ge=1)
    share: float = Field(default=1.0, ge=0, le=1)
    made_by: str = ""

    @model_validator(mode="after")
    def _some(self) -> PromptConfig:
        if not self.text and not self.image:
            raise ValueError("prompts without a token in either tower")
        return self


class Prompts(nn.Module):
    """Prompts that travel with a model. Their numbers are buffers: no optimiser of the towers touches them.

    Args:
        config: their sizes; numbers are NaN until they are set.
        text_width, image_width: D of the towers.
    """

    def __init__(self, config: PromptConfig, text_width: int, image_width: int) -> None:
        super().__init__()
        self.config = config
        if config.text:
            self.register_buffer("text", torch.full((config.text_layers, config.text, text_width), torch.nan))
        if config.image:
            self.register_buffer("image", torch.full((config.image_layers, config.image, image_width), torch.nan))

    @staticmethod
    def of(text: Sequence[Tensor] = (), image: Sequence[Tensor] = (), share: float = 1.0, made_by: str = "") -> Prompts:
        """Prompts of their layers, each (M, D); a tower without any is left out."""
        sizes: dict[str, Any] = {}
        for name, layers in (("text", text), ("image", image)):
            if layers:
                sizes |= {name: len(layers[0]), f"{name}_layers": len(layers)}
        widths = [layers[0].shape[1] if layers else 0 for layers in (text, image)]
        made = Prompts(PromptConfig(**sizes, share=share, made_by=made_by), *widths)
        for name, layers in (("text", text), ("image", image)):
            if layers:
                made.get_buffer(name).copy_(torch.stack([layer.detach() for layer in layers]))
        return made

    def numbers(self) -> int:
        """How many numbers they are."""
        return sum(buffer.numel() for buffer in self.buffers())

    def shared(self, share: float) -> Prompts:
        """The same prompts, going ``share`` of the way from the parent's rows."""
        made = Prompts(self.config.model_copy(update={"share": share}), 0, 0)
        for name, value in self.named_buffers():
            setattr(made, name, value)
        return made

    def in_text(self, at: int) -> Inserted | None:
        """Those of the text tower, behind ``at`` tokens."""
        return Inserted(tuple(self.get_buffer("text")), at) if self.config.text else None

    def in_image(self) -> Inserted | None:
        """Those of the image tower."""
        return Inserted(tuple(self.get_buffer("image"))) if self.config.image else None


def text_start(model: DualEncoder) -> int:
    """How many tokens stand before the prompts of a text: 1 where texts begin with a start token, else 0."""
    return 0 if model.tokenizer is None or model.tokenizer.frame[0] is None else 1


def with_room(model: DualEncoder, ids_BL: Tensor, count: int) -> Tensor:
    """Ids with ``count`` place holders behind the start token, (B, L + count) or as long as the context.

    Raises:
        UsageError: the context is too short for the prompts and one word.
    """
    from diptych.towers.encode import lengths

    context, pad, at = model.text.context, model.text.pad_id, text_start(model)
    if count + at + 2 > context:
        raise UsageError(f"{count} prompt tokens", f"the text tower reads {context} tokens in all", "Use fewer")
    hold = next(number for number in range(3) if number not in (pad, getattr(model.config.text, "eos_id", None)))
    room_BM = ids_BL.new_full((len(ids_BL), count), hold)
    made_BL = torch.cat([ids_BL[:, :at], room_BM, ids_BL[:, at:]], dim=1)
    if made_BL.shape[1] <= context:
        return made_BL
    kept_BL = made_BL[:, :context].clone()
    length_B = lengths(made_BL, pad)
    last_B = made_BL.gather(1, (length_B - 1).clamp(min=0)[:, None])[:, 0]
    kept_BL[:, -1] = torch.where(length_B > context, last_B, kept_BL[:, -1])
    return kept_BL
