"""PiToMe: tokens in large groups of similar ones merge, isolated ones are protected.

Paper: Tran et al., "Accelerating Transformers with Spectrum-Preserving Token Merging", arXiv:2405.16148, section 3: energy score
(equation 4), ordered energy-based bipartite soft matching and tracking of sizes (section 3.2 and algorithm 1).
Code: https://github.com/hchautran/PiToMe
Relations: ``tome`` splits by position and lets any token merge; here the energy says who may, and in which set it is.

Shapes: B rows, T tokens (prefix first), N patch tokens, S sources (as many targets), K width of a head.

Between attention and MLP of block l of L, with keys k averaged over the heads, sizes s, and S tokens to merge away::

    m = 0.9 - 0.9 * l / L                                          # groups are drawn wider in later blocks
    f = lambda c: c if c >= m else alpha * (exp(c - m) - 1)
    energy[i] = mean(f(cosine(k[i], k[j])) for j in patches)
    ranking = sorted(patches, key=energy, largest first)
    protected = ranking[2 * S :]
    a, b = ranking[0 : 2 * S : 2], ranking[1 : 2 * S : 2]
    for i in a:
        j = max(b, key=lambda j: cosine(k[i], k[j]))
        x[j] = (s[i] * x[i] + s[j] * x[j]) / (s[i] + s[j]); remove i     # sizes add up
    patches = protected + b

Class and register tokens take no part. The paper keeps a share of the tokens in each block; ``ratio`` is the share gone in the end,
spread in this manner. Blocks count from 0. A token's cosine with itself is among its energies: it is the same for all and changes no
ranking. The released code has the energy continuous, ``c - m`` in place of ``c`` from the margin up; here it is as in equation 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.core.types import Middle, Tokens
from diptych.tokens.parts.counts import Spread, counts
from diptych.tokens.parts.inside import Inside
from diptych.tokens.parts.merging import merge

CARD = Card(
    id="pitome",
    name="PiToMe",
    family="tokens",
    paper="Accelerating Transformers with Spectrum-Preserving Token Merging, arXiv:2405.16148",
    where="section 3.2, equation 4 and algorithm 1",
    code="https://github.com/hchautran/PiToMe",
    claim="saves 40 to 60 % of the operations and loses less in retrieval than other merging",
    published="CLIP on Flickr30k: a drop of 0.3 % against 4.5 % (abstract)",
)
FIRST_MARGIN = 0.9


class Options(BaseModel):
    """Settings of :func:`pitome`.

    Args:
        ratio: share of the patches that is gone after the last block, in [0, 1); 0.5 where neither it nor ``keep`` is given.
        keep: instead, the share of its patch tokens that every block keeps, the paper's ratio r, from 0.5 to 1.
        spread: ``share`` takes the same share of what is left in each block, ``even`` as many, ``early`` all it can from the first
            block on, which spares the most time; of ``ratio``.
        alpha: the energy of dissimilar tokens goes down to −alpha; the paper's 1.
        proportional: attention counts a token as often as it has patches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    ratio: float | None = Field(default=None, ge=0.0, lt=1.0)
    keep: float | None = Field(default=None, ge=0.5, le=1.0)
    spread: Spread = "share"
    alpha: float = Field(default=1.0, gt=0.0)
    proportional: bool = True

    @model_validator(mode="after")
    def _one(self) -> Options:
        if self.ratio is not None and self.keep is not None:
            raise ValueError("ratio and keep say the same thing: give one")
        return self


@dataclass(slots=True)
class PiToMe(Inside):
    """The token method."""

    ratio: float
    keep: float | None
    spread: Spread
    alpha: float
    proportional: bool
    name: ClassVar[str] = "pitome"
    uses: ClassVar[frozenset[str]] = frozenset({"keys"})

    def between(self, tokens: Tokens, middle: Middle) -> Tokens:
        """Merge this block's share of the tokens of highest energy."""
        assert middle.keys_BTK is not None  # the tower gives what ``uses`` names
        patches = tokens.x_BTD.shape[1] - tokens.prefix
        if self.keep is not None:
            left = patches - min(math.floor(patches * (1 - self.keep)), patches // 2)
        else:
            left = counts(math.prod(tokens.grid), self.ratio, middle.depth, self.spread)[middle.index]
        if left >= patches:
            return tokens
        with torch.no_grad():
            key_BNK = F.normalize(middle.keys_BTK[:, tokens.prefix :].float(), dim=-1)
            margin = FIRST_MARGIN * (1 - middle.index / middle.depth)
            slot_BN = paired(key_BNK @ key_BNK.transpose(1, 2), patches - left, margin, self.alpha)
        return merge(tokens, slot_BN, left, self.proportional)


def energies(cosine_BNN: Tensor, margin: float, alpha: float) -> Tensor:
    """Equation 4 for every patch token, (B, N): high in a large group of similar tokens."""
    return torch.where(cosine_BNN >= margin, cosine_BNN, alpha * torch.expm1(cosine_BNN - margin)).mean(dim=2)


def paired(cosine_BNN: Tensor, merges: int, margin: float, alpha: float) -> Tensor:
    """Slots (B, N) after ``merges`` tokens of high energy went into their most similar partner: protected ones first, then targets."""
    batch, patches, _ = cosine_BNN.shape
    ranking_BN = energies(cosine_BNN, margin, alpha).argsort(dim=1, descending=True, stable=True)
    source_BS, target_BS, protected = ranking_BN[:, 0 : 2 * merges : 2], ranking_BN[:, 1 : 2 * merges : 2], ranking_BN[:, 2 * merges :]
    edges_BSN = cosine_BNN.gather(1, source_BS[..., None].expand(-1, -1, patches))
    best_BS = edges_BSN.gather(2, target_BS[:, None].expand(-1, merges, -1)).argmax(dim=2)
    first = patches - 2 * merges
    numbers = torch.arange(patches - merges, device=cosine_BNN.device).expand(batch, -1)
    slot_BN = torch.empty_like(ranking_BN)
    slot_BN.scatter_(1, protected, numbers[:, :first])
    slot_BN.scatter_(1, target_BS, numbers[:, first:])
    return slot_BN.scatter_(1, source_BS, first + best_BS)


def pitome(
    *,
    ratio: float | None = None,
    keep: float | None = None,
    spread: Spread = "share",
    alpha: float = 1.0,
    proportional: bool = True,
) -> PiToMe:
    """The method; see :class:`Options`."""
    if ratio is not None and keep is not None:
        raise UsageError("tokens 'pitome'", "ratio and keep say the same thing", "Give one")
    return PiToMe(0.5 if ratio is None else ratio, keep, spread, alpha, proportional)
