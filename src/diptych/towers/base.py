"""What every tower is: a frozen config, the seams embed → blocks → pool, and named taps.

Shapes: B rows, C channels, H height, W width, T tokens, L text length, D width.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from diptych.core.errors import UsageError
from diptych.core.types import Middle, MiddleMethod, TokenMethod, Tokens
from diptych.towers.prompts import Inserted


class TowerConfig(BaseModel):
    """The part all tower configs share; each tower file subclasses it with ``kind: Literal["…"] = "…"``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str


def size_bias(tokens: Tokens) -> Tensor | None:
    """Attention bias ``log(size)`` of merged tokens, (B, 1, 1, T), so that a token of n patches weighs as n.

    None without sizes, and where the method that merged does not want it.

    ToMe (arXiv:2210.09461), section 3, proportional attention. Prefix tokens missing from ``size_BT`` count one.
    """
    if tokens.size_BT is None or not tokens.proportional:
        return None
    missing = tokens.x_BTD.shape[1] - tokens.size_BT.shape[1]
    size_BT = nn.functional.pad(tokens.size_BT.to(tokens.x_BTD.dtype), (missing, 0), value=1.0)
    return size_BT.log()[:, None, None, :]


class TokenSeam:
    """The call of a token method in one block, between attention and MLP; ``tokens`` is what it made."""

    def __init__(self, method: MiddleMethod, tokens: Tokens, index: int, depth: int) -> None:
        self.method, self.tokens, self.index, self.depth = method, tokens, index, depth
        self.uses = method.uses

    def __call__(self, x_BTD: Tensor, seen: dict[str, Tensor]) -> Tensor:
        middle = Middle(self.index, self.depth, seen.get("keys"), seen.get("class_attention"))
        self.tokens = self.method.between(replace(self.tokens, x_BTD=x_BTD), middle)
        return self.tokens.x_BTD


class ImageTower(nn.Module):
    """Pixels to one vector an image, through seams that token methods and adapters use.

    Attributes:
        config: the frozen config that made it.
        width: width of the pooled output, before the projection.
        image_size: height and width in pixels it was made for.
        blocks: transformer blocks; ``block(x_BTD, bias=None) -> x_BTD``, empty for a tower without tokens.
        gives: what a token method may look at between attention and MLP, out of ``"keys"`` and ``"class_attention"``; such a tower's
            blocks also take ``seam=``.
        takes_prompts: its blocks may read further tokens behind the patches.
    """

    config: Any
    width: int
    image_size: tuple[int, int]
    blocks: nn.ModuleList
    gives: frozenset[str] = frozenset()
    takes_prompts: bool = True

    def embed(self, pixels_BCHW: Tensor) -> Tokens:
        """Normalised float pixels to tokens with positions, ready for the first block."""
        raise UsageError(f"image tower {self.config.kind!r}", "it makes no tokens", "Use a tower with patch tokens such as 'vit'")

    def pool(self, tokens: Tokens) -> Tensor:
        """Tokens after the last block to (B, width); the final norm is inside."""
        raise UsageError(f"image tower {self.config.kind!r}", "it makes no tokens", "Use a tower with patch tokens such as 'vit'")

    def patches(self, tokens: Tokens) -> Tensor:
        """The tap ``image.tokens``: normed patch tokens (B, T - prefix, D)."""
        return tokens.x_BTD[:, tokens.prefix :]

    def finish(self, tokens: Tokens) -> Tensor:
        """Last block and pooling when nobody looks at the tokens; towers override it where a shorter way is exact."""
        if not len(self.blocks):
            return self.pool(tokens)
        return self.pool(replace(tokens, x_BTD=self.blocks[-1](tokens.x_BTD, bias=size_bias(tokens))))

    def forward(
        self,
        pixels_BCHW: Tensor,
        tokens: TokenMethod | None = None,
        taps: Set[str] = frozenset(),
        prompts: Inserted | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Pooled rows (B, width) and the taps that were asked for.

        Args:
            pixels_BCHW: normalised float pixels.
            tokens: a method that drops or merges tokens after the embedding and between blocks.
            taps: names out of ``image.tokens`` (normed patch tokens). Raises :class:`UsageError` for any other.
            prompts: further tokens that the blocks read.
        """
        check_taps(taps, {"image.tokens"})
        if tokens is not None:
            check_tokens(self, tokens)
        state = self.embed(pixels_BCHW)
        if tokens is not None:
            state = tokens.after_embed(state)
        if prompts is not None:
            return self._prompted(state, prompts, tokens, taps)
        watched = bool(taps) or (tokens is not None and not getattr(tokens, "embed_only", False))
        middle = tokens if isinstance(tokens, MiddleMethod) else None
        for index, block in enumerate(self.blocks if watched else self.blocks[:-1]):
            if middle is not None and middle.acts(index, len(self.blocks)):
                seam = TokenSeam(middle, state, index, len(self.blocks))
                x_BTD = block(state.x_BTD, bias=size_bias(state), seam=seam)
                state = replace(seam.tokens, x_BTD=x_BTD)
            else:
                state = replace(state, x_BTD=block(state.x_BTD, bias=size_bias(state)))
            if tokens is not None:
                state = tokens.after_block(index, state)
        pooled_BD = self.pool(state) if watched else self.finish(state)
        return pooled_BD, {"image.tokens": self.patches(state)} if taps else {}

    def _prompted(self, state: Tokens, prompts: Inserted, tokens: TokenMethod | None, taps: Set[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """The blocks with prompts among the tokens, which are taken away before pooling."""
        if tokens is not None and not getattr(tokens, "embed_only", False):
            why = "the method drops or merges tokens between blocks and would lose the prompts"
            raise UsageError(f"prompts with token method {getattr(tokens, 'name', type(tokens).__name__)!r}", why, "Leave one of them out")
        if not len(self.blocks):
            why = "the tower has no blocks that read tokens"
            raise UsageError(f"prompts in image tower {self.config.kind!r}", why, "Use a tower such as 'vit', or prompts in the text tower")
        prompts.check(self.config.kind, len(self.blocks))
        x_BTD = state.x_BTD
        for index, block in enumerate(self.blocks):
            x_BTD = block(prompts.put(index, x_BTD))
        state = replace(state, x_BTD=prompts.take_away(x_BTD))
        return self.pool(state), {"image.tokens": self.patches(state)} if taps else {}


def check_tokens(tower: ImageTower, method: TokenMethod) -> None:
    """A :class:`UsageError` where a token method and an image tower do not go together."""
    together = f"token method {getattr(method, 'name', type(method).__name__)!r} with image tower {tower.config.kind!r}"
    if not len(tower.blocks):
        raise UsageError(together, "the tower has no blocks to work on fewer tokens", "Use a tower such as 'vit', or leave tokens out")
    missing = getattr(method, "uses", frozenset()) - tower.gives
    if "class_attention" in missing:
        why = "the method looks at the class token's attention, and this tower has no class token"
        raise UsageError(together, why, "Use a tower with one such as CLIP's, or a method such as 'tome'")
    if missing or (isinstance(method, MiddleMethod) and not tower.gives):
        raise UsageError(together, "the method works inside attention blocks, which this tower has not", "Use a tower such as 'vit'")


class TextTower(nn.Module):
    """Token ids to one vector a text.

    Attributes:
        width: width of the pooled output, before the projection.
        context: most tokens a text may have.
        causal: whether a token sees only earlier ones.
        crops: whether padding at the end may be cropped without any change: in causal towers, and in those that mask it.
        pad_id: id of padding.
    """

    config: Any
    width: int
    context: int
    causal: bool
    crops: bool
    pad_id: int

    def forward(self, ids_BL: Tensor, taps: Set[str] = frozenset(), prompts: Inserted | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Pooled rows (B, width) and the taps that were asked for out of ``text.tokens`` (normed tokens, B, L, D).

        ``prompts`` take the place of ids that were put in for them (:func:`diptych.towers.prompts.with_room`).
        """
        raise UsageError(f"text tower {type(self).__name__}", "it has no forward", "Define forward(ids_BL, taps) in the tower's file")

    def share(self, image: ImageTower) -> None:
        """Take weights from the image tower before training; most text towers take none."""


def check_taps(asked: Set[str], known: set[str]) -> None:
    """A :class:`UsageError` when a tap is asked for that the tower does not have."""
    if unknown := set(asked) - known:
        raise UsageError(f"tap {sorted(unknown)[0]!r}", "this tower does not give it", f"Known: {', '.join(sorted(known))}")


def as_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """``64`` or ``(64, 96)`` as height and width."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


@torch.no_grad()
def count_parameters(module: nn.Module) -> int:
    """Number of parameters of ``module``."""
    return sum(parameter.numel() for parameter in module.parameters())
