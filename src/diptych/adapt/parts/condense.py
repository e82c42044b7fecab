"""Token condensation inside an image tower: attentive patch tokens stay, the next are merged round centres, the last are fused to one.

Paper: Wang et al. (TCA), arXiv:2410.14729 (token reduction). The pseudo-code stands in :mod:`diptych.adapt.test_time.tca`.

Shapes: B rows, T tokens (prefix first), N patch tokens, W width, K width of a head, A anchors, L blocks, G centres.
"""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.types import Middle, Tokens


class Condense:
    """The token method, for one picture at a time; it remembers the class token behind each block of the last picture.

    Args:
        gives: what the tower shows; with the class token's attention the class-token form, else the mean-token form.
        ratio: share of the patch tokens gone after the last of the chosen blocks.
        centres: G at most.

    Attributes:
        anchor_ALW: class tokens behind each block to choose anchors from; None for none.
    """

    name = "tca"

    def __init__(self, gives: Set[str], ratio: float, centres: int) -> None:
        self.classed = "class_attention" in gives
        self.uses = frozenset({"class_attention"} if self.classed else {"keys"})
        self.ratio, self.centres = ratio, centres
        self.anchor_ALW: Tensor | None = None
        self.tokens: list[Tensor] = []
        self.depth = 0

    def acts(self, index: int, depth: int) -> bool:
        """In the blocks after each quarter of the depth."""
        self.depth = depth
        return index in chosen(depth)

    def after_embed(self, tokens: Tokens) -> Tokens:
        """A new picture."""
        self.tokens = []
        return tokens

    def after_block(self, index: int, tokens: Tokens) -> Tokens:
        """Remember the class token; put its anchor behind it where the next block is a chosen one."""
        own_BW = self.summary(tokens)
        self.tokens.append(own_BW)
        if self.anchor_ALW is None or index + 1 not in chosen(self.depth):
            return tokens
        anchor_AW = self.anchor_ALW[:, index]
        near_B = F.cosine_similarity(own_BW[:, None], anchor_AW[None], dim=-1).argmax(1)
        at = int(self.classed)
        x_BTW = torch.cat([tokens.x_BTD[:, :at], anchor_AW[near_B][:, None], tokens.x_BTD[:, at:]], dim=1)
        return replace(tokens, x_BTD=x_BTW, prefix=tokens.prefix + 1)

    def summary(self, tokens: Tokens) -> Tensor:
        """The class token, or the mean of the patch tokens by their sizes, (B, W)."""
        if self.classed:
            return tokens.x_BTD[:, 0]
        size_BN = sizes(tokens)
        return (tokens.x_BTD[:, tokens.prefix :] * size_BN[..., None]).sum(1) / size_BN.sum(1, keepdim=True)

    def seen_LW(self) -> Tensor:
        """Class tokens behind all blocks of the last picture."""
        return torch.stack([token_BW[0] for token_BW in self.tokens])

    def between(self, tokens: Tokens, middle: Middle) -> Tokens:
        """The anchor goes, then patch tokens are condensed to this block's count."""
        attention_BN = self.attention(tokens, middle)
        if self.anchor_ALW is not None and middle.index:
            at = int(self.classed)
            x_BTW = torch.cat([tokens.x_BTD[:, :at], tokens.x_BTD[:, at + 1 :]], dim=1)
            tokens = replace(tokens, x_BTD=x_BTW, prefix=tokens.prefix - 1)
        places = chosen(middle.depth)
        share = (1 - self.ratio) ** ((places.index(middle.index) + 1) / len(places))
        left = max(1, round(math.prod(tokens.grid) * share))
        return self.condensed(tokens, attention_BN, left) if left < attention_BN.shape[1] else tokens

    def attention(self, tokens: Tokens, middle: Middle) -> Tensor:
        """Of the class token, or of the mean key, to the patch tokens, (B, N)."""
        if self.classed:
            assert middle.class_BT is not None  # the tower gives what ``uses`` names
            return middle.class_BT[:, tokens.prefix :]
        assert middle.keys_BTK is not None
        key_BNK = middle.keys_BTK[:, tokens.prefix :]
        return (key_BNK @ key_BNK.mean(1)[..., None])[..., 0].div(math.sqrt(key_BNK.shape[-1])).softmax(-1)

    def condensed(self, tokens: Tokens, attention_BN: Tensor, left: int) -> Tokens:
        """As many patch tokens as ``left``: kept ones in their order, merged ones, the fused one."""
        x_BNW, size_BN = tokens.x_BTD[:, tokens.prefix :], sizes(tokens)
        parts = [self.row(*each, left) for each in zip(x_BNW, size_BN, attention_BN, strict=True)]
        x_BMW, size_BM = (torch.stack([part[i] for part in parts]) for i in range(2))
        x_BTW = torch.cat([tokens.x_BTD[:, : tokens.prefix], x_BMW], dim=1)
        return replace(tokens, x_BTD=x_BTW, size_BT=size_BM, kept_BT=None, proportional=False)

    def row(self, x_NW: Tensor, size_N: Tensor, attention_N: Tensor, left: int) -> tuple[Tensor, Tensor]:
        """One picture's patch tokens and their sizes."""
        centres = max(0, min(self.centres, left - 2))
        kept = left - centres - 1
        order_N = attention_N.argsort(descending=True, stable=True)
        middle = max(centres, round(2 * (len(x_NW) - kept) / 3)) if centres else 0
        stay, merged, fused = order_N[:kept].sort().values, order_N[kept : kept + middle], order_N[kept + middle :]
        weight_R1 = (attention_N if self.classed else size_N / size_N[fused].sum())[fused].to(x_NW)[:, None]
        last_1W = (weight_R1 * x_NW[fused]).sum(0, keepdim=True)
        round_GW, member = around(x_NW[merged], centres)
        size_G = size_N.new_zeros(centres).index_add(0, member, size_N[merged])
        return torch.cat([x_NW[stay], round_GW, last_1W]), torch.cat([size_N[stay], size_G, size_N[fused].sum()[None]])


def chosen(depth: int) -> list[int]:
    """The blocks after each quarter of the depth."""
    return sorted({depth // 4, depth // 2, 3 * depth // 4})


def sizes(tokens: Tokens) -> Tensor:
    """How many original patches each patch token stands for, (B, N)."""
    patches = tokens.x_BTD.shape[1] - tokens.prefix
    if tokens.size_BT is None:
        return tokens.x_BTD.new_ones(len(tokens.x_BTD), patches)
    return tokens.size_BT[:, -patches:].to(tokens.x_BTD.dtype)


def around(x_RW: Tensor, centres: int) -> tuple[Tensor, Tensor]:
    """Tokens (G, W) merged round centres that lie far apart, the first of ``x_RW`` among them; and each token's centre (R,)."""
    if not centres:
        return x_RW.new_zeros(0, x_RW.shape[1]), torch.zeros(0, dtype=torch.int64, device=x_RW.device)
    away_RR = (x_RW[:, None] - x_RW[None]).norm(dim=-1)
    at, far_R = [0], away_RR[0].clone()
    for _ in range(centres - 1):
        far_R[at] = -1  # a token is a centre once, also among equal ones
        at.append(int(far_R.argmax()))
        far_R = torch.minimum(far_R, away_RR[at[-1]])
    away_GR, number_G = away_RR[at], torch.arange(centres, device=x_RW.device)
    member_R = away_GR.argmin(0)
    member_R[at] = number_G
    mine_GR = member_R[None] == number_G[:, None]
    weight_GR = torch.where(away_GR == 0, 1.0, 1 / away_GR.clamp(min=1e-8)) * mine_GR
    weight_GR = weight_GR / weight_GR.sum(1, keepdim=True)
    return weight_GR.to(x_RW) @ x_RW, member_R
