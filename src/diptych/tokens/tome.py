"""ToMe: in every block the most similar patch tokens are merged, without training.

Paper: Bolya et al., "Token Merging: Your ViT But Faster", arXiv:2210.09461, section 3: similarity of keys, bipartite soft
matching (steps 1 to 5), size-weighted averages, proportional attention (equation 1).
Code: https://github.com/facebookresearch/ToMe
Relations: ``pitome`` chooses who may merge by an energy before it matches; ``random-mask`` drops at the start and looks at nothing.

Shapes: B rows, T tokens (prefix first), N patch tokens, S sources, R targets, K width of a head.

Between attention and MLP of each block, with keys k averaged over the heads and sizes s::

    a, b = patches[0::2], patches[1::2]                        # step 1: two sets, every other token
    for i in a:
        best[i] = max(b, key=lambda j: cosine(k[i], k[j]))     # step 2: one edge each
    for i in the r tokens of a with the most similar edges:    # step 3
        x[best[i]] = (s[i] * x[i] + s[best[i]] * x[best[i]]) / (s[i] + s[best[i]]); remove i      # step 4, sizes add up
    patches = rest of a + b                                    # step 5
    attention = softmax(q @ k.T / sqrt(d) + log(s)) @ v        # from the next block on

Class and register tokens are never merged and belong to neither set. The paper merges a constant number r in each block; ``ratio`` is the
share that is gone in the end, spread evenly. Where a block would merge more than half, which this matching cannot, earlier blocks merge
more. ``matching="random"`` draws the similarities: the same numbers of tokens, merged without looking, as a control.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.core.types import Middle, Tokens
from diptych.tokens.parts.counts import Spread, counts
from diptych.tokens.parts.inside import Inside
from diptych.tokens.parts.merging import merge, slots

CARD = Card(
    id="tome",
    name="ToMe",
    family="tokens",
    paper="Token Merging: Your ViT But Faster, arXiv:2210.09461",
    where="section 3, bipartite soft matching and proportional attention",
    code="https://github.com/facebookresearch/ToMe",
    claim="twice the throughput of trained transformers without training, at 0.2 to 0.3 points of accuracy",
    published="ViT-L at 512 px and ViT-H at 518 px (abstract)",
)


class Options(BaseModel):
    """Settings of :func:`tome`.

    Args:
        ratio: share of the patches that is gone after the last block, in [0, 1); 0.5 where neither it nor ``r`` is given.
        r: instead, how many patch tokens every block merges away, the paper's r; at most half of those left.
        spread: ``even`` merges as many in each block, ``share`` the same share of what is left, ``early`` all it can from the first
            block on, which spares the most time; of ``ratio``.
        proportional: attention counts a token as often as it has patches.
        matching: ``keys`` is the paper's; ``random`` merges as many without looking.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    ratio: float | None = Field(default=None, ge=0.0, lt=1.0)
    r: int | None = Field(default=None, ge=0)
    spread: Spread = "even"
    proportional: bool = True
    matching: Literal["keys", "random"] = "keys"

    @model_validator(mode="after")
    def _one(self) -> Options:
        if self.ratio is not None and self.r is not None:
            raise ValueError("ratio and r say the same thing: give one")
        return self


@dataclass(slots=True)
class ToMe(Inside):
    """The token method."""

    ratio: float
    r: int | None
    spread: Spread
    proportional: bool
    name: ClassVar[str] = "tome"
    uses: ClassVar[frozenset[str]] = frozenset({"keys"})

    def between(self, tokens: Tokens, middle: Middle) -> Tokens:
        """Merge as many pairs as this block's share."""
        patches = tokens.x_BTD.shape[1] - tokens.prefix
        if self.r is not None:
            left = patches - min(self.r, patches // 2)
        else:
            left = counts(math.prod(tokens.grid), self.ratio, middle.depth, self.spread)[middle.index]
        if left >= patches:
            return tokens
        with torch.no_grad():
            slot_BN = matched(self.similarity(tokens, middle), patches - left)
        return merge(tokens, slot_BN, left, self.proportional)

    def similarity(self, tokens: Tokens, middle: Middle) -> Tensor:
        """Cosine (B, S, R) of the keys of every other patch token with those between."""
        assert middle.keys_BTK is not None  # the tower gives what ``uses`` names
        key_BNK = F.normalize(middle.keys_BTK[:, tokens.prefix :].float(), dim=-1)
        return key_BNK[:, 0::2] @ key_BNK[:, 1::2].transpose(1, 2)


@dataclass(slots=True)
class RandomToMe(ToMe):
    """The control. The engine seeds ``generator`` at each step."""

    generator: torch.Generator
    uses: ClassVar[frozenset[str]] = frozenset()

    def similarity(self, tokens: Tokens, middle: Middle) -> Tensor:
        """Uniform numbers (B, S, R)."""
        patches = tokens.x_BTD.shape[1] - tokens.prefix
        shape = (len(tokens.x_BTD), (patches + 1) // 2, patches // 2)
        return torch.rand(shape, generator=self.generator, device=tokens.x_BTD.device)


def matched(similar_BSR: Tensor, merges: int) -> Tensor:
    """Slots (B, N) of patch tokens, sources and targets by turns, after ``merges`` sources went into their most similar target."""
    batch, sources, targets = similar_BSR.shape
    best_BS, target_BS = similar_BSR.max(dim=2)
    moves_BS = torch.zeros_like(best_BS, dtype=torch.bool).scatter(1, best_BS.topk(merges, dim=1).indices, True)
    slot = slots(target_BS, moves_BS, targets)
    slot_BN = slot.new_empty(batch, sources + targets)
    slot_BN[:, 0::2], slot_BN[:, 1::2] = slot[:, :sources], slot[:, sources:]
    return slot_BN


def tome(
    *,
    ratio: float | None = None,
    r: int | None = None,
    spread: Spread = "even",
    proportional: bool = True,
    matching: Literal["keys", "random"] = "keys",
    device: torch.device | str = "cpu",
) -> ToMe:
    """The method; the control's generator is on ``device``. See :class:`Options`."""
    if ratio is not None and r is not None:
        raise UsageError("tokens 'tome'", "ratio and r say the same thing", "Give one")
    share = 0.5 if ratio is None else ratio
    if matching == "random":
        return RandomToMe(share, r, spread, proportional, torch.Generator(device=device))
    return ToMe(share, r, spread, proportional)
