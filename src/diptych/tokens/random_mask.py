"""FLIP: a random share of the image's patches is left out before the first block.

Paper: Li et al., "Scaling Language-Image Pre-Training via Masking", arXiv:2212.00794, section 3 (masking ratios of 50 %
and 75 %; images only, no reconstruction, whole images at inference).
Code: https://github.com/facebookresearch/flip
Relations: methods that merge or drop by content do their work between blocks; this one looks at nothing.

Shapes: B rows, T tokens (prefix tokens first), N patches, K kept patches, D width.

For each image::

    kept = sorted(random_permutation(N)[:K])               # K = N - round(ratio * N), at least 1
    tokens = prefix tokens + [patch[i] for i in kept]      # positions were added before
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field

from diptych.core.card import Card
from diptych.core.types import Tokens
from diptych.tokens.parts.keeping import keep

CARD = Card(
    id="random-mask",
    name="FLIP",
    family="tokens",
    paper="Scaling Language-Image Pre-Training via Masking, arXiv:2212.00794",
    where="section 3, image masking",
    code="https://github.com/facebookresearch/flip",
    claim="more accurate than training on whole images, in less time, where the batch grows as the patches go",
    published="ImageNet zero-shot +1.2 points in half the time with half of the patches and twice the batch (section 4.1, ViT-L/16)",
)


class Options(BaseModel):
    """Settings of :func:`random_mask`.

    Args:
        ratio: share of patches left out, in [0, 1); at least one patch stays.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    ratio: float = Field(default=0.5, ge=0.0, lt=1.0)


@dataclass(slots=True)
class RandomMask:
    """The token method. The engine seeds ``generator`` at each step, so that a step draws the same when it is repeated."""

    ratio: float
    generator: torch.Generator
    name: ClassVar[str] = "random-mask"
    embed_only: ClassVar[bool] = True  # nothing happens between blocks, so that the tower may shorten its last one

    def after_embed(self, tokens: Tokens) -> Tokens:
        """Keep the prefix and ``N - round(ratio · N)`` patches of each image, in their order."""
        x_BTD, prefix = tokens.x_BTD, tokens.prefix
        batch, patches = len(x_BTD), x_BTD.shape[1] - prefix
        kept = max(1, patches - round(self.ratio * patches))
        if kept == patches:
            return tokens
        noise_BN = torch.rand(batch, patches, generator=self.generator, device=x_BTD.device)
        return keep(tokens, noise_BN.topk(kept, dim=1, sorted=False).indices.sort(dim=1).values)

    def after_block(self, index: int, tokens: Tokens) -> Tokens:
        """Nothing is dropped later."""
        return tokens


def random_mask(*, ratio: float = 0.5, device: torch.device | str = "cpu") -> RandomMask:
    """The method with a generator on ``device``; see :class:`Options`."""
    return RandomMask(ratio, torch.Generator(device=device))
