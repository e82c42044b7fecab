"""EViT: patch tokens that the class token attends to stay, the others become one token.

Paper: Liang et al., "Not All Patches are What You Need: Expediting Vision Transformers via Token Reorganizations", arXiv:2202.07800,
section 3 (attentive tokens; attention of the class token averaged over the heads; fusion of inattentive tokens).
Code: https://github.com/youweiliang/evit
Relations: ``tome`` and ``pitome`` merge what is alike; here the class token says what matters, so a tower without one cannot use it.

Shapes: B rows, T tokens (prefix first), N patch tokens, M kept ones, D width.

Between attention and MLP of the chosen blocks, with a = the class token's attention to each patch::

    ranking = sorted(patches, key=a, largest first)
    kept, rest = ranking[:M], ranking[M:]                     # M = ceil(keep * N)
    fused = sum(a[i] * x[i] for i in rest)
    patches = kept + [fused]

The weights of the fused token are not divided by their sum, as in the paper. It is a patch token like others in later blocks. Sizes
are tracked for those who count patches, and do not change the attention. The paper reorganizes in blocks 4, 7 and 10 of 12; for other
depths the blocks after each quarter are taken. ``ratio`` is the share gone in the end, the fused token counted among those left;
``keep`` is the paper's share for each of the chosen blocks. Kept tokens stay in their order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.core.types import Middle, Tokens
from diptych.tokens.parts.counts import counts
from diptych.tokens.parts.inside import Inside
from diptych.tokens.parts.keeping import keep
from diptych.tokens.parts.merging import sizes

CARD = Card(
    id="evit",
    name="EViT",
    family="tokens",
    paper="Not All Patches are What You Need: Expediting Vision Transformers via Token Reorganizations, arXiv:2202.07800",
    where="section 3, identification of attentive tokens and fusion of inattentive ones",
    code="https://github.com/youweiliang/evit",
    claim="half as fast again at a third of a point of accuracy",
    published="DeiT-S 50 % faster at −0.3 % on ImageNet (abstract)",
)


class Options(BaseModel):
    """Settings of :func:`evit`.

    Args:
        ratio: share of the patches that is gone after the last of the blocks, in [0, 1); 0.5 where neither it nor ``keep`` is given.
        keep: instead, the share of its patch tokens that every chosen block keeps beside the fused one; the paper's 0.7.
        blocks: which blocks reorganize, counted from 0; None takes those after each quarter of the depth.
        fuse: the others become one token; without it they are dropped.
        choose: by the class token's ``attention``, or as many at ``random`` (random shares stand for the attention), as a control.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    ratio: float | None = Field(default=None, ge=0.0, lt=1.0)
    keep: float | None = Field(default=None, gt=0.0, le=1.0)
    blocks: tuple[int, ...] | None = None
    fuse: bool = True
    choose: Literal["attention", "random"] = "attention"

    @model_validator(mode="after")
    def _one(self) -> Options:
        if self.ratio is not None and self.keep is not None:
            raise ValueError("ratio and keep say the same thing: give one")
        if self.blocks is not None and (not self.blocks or min(self.blocks) < 0):
            raise ValueError("blocks are numbers from 0, at least one")
        return self


@dataclass(slots=True)
class EViT(Inside):
    """The token method."""

    ratio: float
    keep: float | None
    blocks: tuple[int, ...] | None
    fuse: bool
    name: ClassVar[str] = "evit"
    uses: ClassVar[frozenset[str]] = frozenset({"class_attention"})

    def chosen(self, depth: int) -> list[int]:
        """The blocks that reorganize, in their order. Raises :class:`UsageError` where the tower has not so many."""
        if self.blocks is None:
            return sorted({depth // 4, depth // 2, 3 * depth // 4})
        if max(self.blocks) >= depth:
            raise UsageError(f"tokens.options.blocks {list(self.blocks)}", f"the tower has blocks 0 to {depth - 1}", "Name others")
        return sorted(set(self.blocks))

    def acts(self, index: int, depth: int) -> bool:
        """In the chosen blocks."""
        return index in self.chosen(depth)

    def between(self, tokens: Tokens, middle: Middle) -> Tokens:
        """Keep the attentive tokens of this block, fuse the rest."""
        patches, chosen = tokens.x_BTD.shape[1] - tokens.prefix, self.chosen(middle.depth)
        if self.keep is not None:
            kept = math.ceil(self.keep * patches)
        else:
            left = counts(math.prod(tokens.grid), self.ratio, len(chosen), "share", halves=False)[chosen.index(middle.index)]
            kept = patches if left >= patches else max(1, left - int(self.fuse))
        if kept >= patches:
            return tokens
        return reorganized(tokens, self.attention(tokens, middle), kept, self.fuse)

    def attention(self, tokens: Tokens, middle: Middle) -> Tensor:
        """The class token's attention to the patch tokens, (B, N)."""
        assert middle.class_BT is not None  # the tower gives what ``uses`` names
        return middle.class_BT[:, tokens.prefix :]


@dataclass(slots=True)
class RandomEViT(EViT):
    """The control. The engine seeds ``generator`` at each step."""

    generator: torch.Generator
    uses: ClassVar[frozenset[str]] = frozenset()

    def attention(self, tokens: Tokens, middle: Middle) -> Tensor:
        """Random shares, (B, N), of sum one."""
        draw_BN = torch.rand(*sizes(tokens).shape, generator=self.generator, device=tokens.x_BTD.device)
        return draw_BN / draw_BN.sum(dim=1, keepdim=True)


def reorganized(tokens: Tokens, attention_BN: Tensor, kept: int, fuse: bool) -> Tokens:
    """The ``kept`` patch tokens of highest attention in their order and, with ``fuse``, the attention-weighted sum of the others."""
    stay_BM = attention_BN.topk(kept, dim=1, sorted=False).indices.sort(dim=1).values
    stayed = keep(tokens, stay_BM)
    if not fuse:
        return stayed
    x_BND, size_BN = tokens.x_BTD[:, tokens.prefix :], sizes(tokens)
    rest_BN = torch.ones_like(attention_BN).scatter(1, stay_BM, 0.0)
    fused_B1D = ((attention_BN * rest_BN).to(x_BND.dtype)[:, None] @ x_BND).to(x_BND.dtype)
    size_BM = torch.cat([size_BN.gather(1, stay_BM), (size_BN * rest_BN).sum(dim=1, keepdim=True)], dim=1)
    x_BTD = torch.cat([stayed.x_BTD, fused_B1D], dim=1)
    return replace(tokens, x_BTD=x_BTD, size_BT=size_BM, kept_BT=None, proportional=False)


def evit(
    *,
    ratio: float | None = None,
    keep: float | None = None,
    blocks: tuple[int, ...] | None = None,
    fuse: bool = True,
    choose: Literal["attention", "random"] = "attention",
    device: torch.device | str = "cpu",
) -> EViT:
    """The method; the control's generator is on ``device``. See :class:`Options`."""
    if ratio is not None and keep is not None:
        raise UsageError("tokens 'evit'", "ratio and keep say the same thing", "Give one")
    share = 0.5 if ratio is None else ratio
    if choose == "random":
        return RandomEViT(share, keep, blocks, fuse, torch.Generator(device=device))
    return EViT(share, keep, blocks, fuse)
