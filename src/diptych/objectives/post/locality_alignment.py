"""Locality alignment (MaskEmbed): each patch token learns what its patch alone adds to the teacher's view of the picture.

Paper: Covert et al., "Locality Alignment Improves Vision-Language Models", arXiv:2410.11087, section 3: masked embedding
self-consistency; the target is the token sequence of the teacher's last block but one, the loss the mean squared error, the masks are drawn
at every rate and come with their complement and with the whole picture, the decoder has two transformer layers.
Code: https://github.com/iancovert/locality-alignment
Relations: pictures only, after pretraining; the teacher is the model as it was when the run began.

Shapes: B pictures, V masked views of each, P patches, T tokens (prefix tokens first), W the tower's width, C channels, H height, X width.

For each picture x, with teacher f (to the block before its last), tower h, decoder g and masks m of P numbers 0 or 1::

    z = patch tokens of h(x)                               # of the whole picture, once
    for m in (drawn, 1 - drawn, all ones):                 # drawn: patch p stays if u[p] > u, all u uniform in [0, 1)
        told = g(m * z), seen = f(m * x)                   # masked pixels are 0 after normalisation: the mean colour
        loss += mean((told - seen)**2) / 3

The decoder gets zeros, plus learned positions, for what is masked and for the prefix tokens. Nothing here looks at the tower's pooled row,
so that zero-shot accuracy may drift; ``pooled_weight`` (ours, 0 as in the paper) keeps the pooled row of the whole picture at the teacher's
by their mean squared difference. The patch tokens are those after the tower's final norm, which the paper sets back to its first values.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.core.types import Loss, Pairs
from diptych.towers.dual import DualEncoder
from diptych.towers.layers import Block, LayerNorm
from diptych.towers.see import See

CARD = Card(
    id="locality-alignment",
    name="Locality Alignment (MaskEmbed)",
    family="objective",
    paper="Locality Alignment Improves Vision-Language Models, arXiv:2410.11087",
    where="section 3, masked embedding self-consistency",
    code="https://github.com/iancovert/locality-alignment",
    needs=frozenset({"teacher"}),
    claim="better patch-level segmentation, most of all for CLIP and SigLIP, and better spatial understanding of models built on them",
    published="patch-level segmentation and RefCOCO, OCID-Ref, TallyQA, VSR, AI2D above the backbone as it was (abstract)",
)
USES: frozenset[str] = frozenset()


class Options(BaseModel):
    """Settings of :func:`locality_alignment`.

    Args:
        layers: of the decoder.
        skip: the teacher's target is taken this many blocks before its end.
        pooled_weight: of the pooled row staying at the teacher's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    layers: int = Field(default=2, ge=1, le=8)
    skip: int = Field(default=1, ge=0)
    pooled_weight: float = Field(default=0.0, ge=0.0)


def chance(batch: int) -> float | None:
    """None: an error of embeddings has no such value."""
    return None


def locality_alignment(pairs: Pairs, *, pooled_weight: float = 0.0) -> Loss:
    """The mean squared error of this rank's pictures.

    Args:
        pairs: ``taps`` told and seen (B, V, T, W), the decoder's and the teacher's tokens of masked views; row and row_seen (B, W), pooled
            rows of the whole picture. What the teacher says gets no gradient. Unit rows are not looked at.
        pooled_weight: see :class:`Options`.

    Returns:
        ``terms`` tokens and pooled (weighted); ``report`` the share of the teacher's variance that is told.
    """
    told = pairs.taps["told"].to(torch.promote_types(pairs.taps["told"].dtype, torch.float32))
    seen = pairs.taps["seen"].detach().to(told.dtype)
    tokens = (told - seen).square().mean()
    pooled = pooled_weight * (pairs.taps["row"].to(told.dtype) - pairs.taps["row_seen"].detach().to(told.dtype)).square().mean()
    spread = (seen - seen.mean(dim=(0, 1), keepdim=True)).square().mean()
    report = {"explained": 1.0 - tokens.detach() / spread.clamp_min(torch.finfo(told.dtype).tiny)}
    return Loss(tokens + pooled, {"tokens": tokens, "pooled": pooled}, report)


def draw_masks(batch: int, patches: int, draw: torch.Generator) -> Tensor:
    """A random mask of each picture, its complement, and all ones: (B, 3, P), 1 where a patch stays."""
    u = torch.rand(batch, patches + 1, generator=draw, device=draw.device)
    mask_BP = (u[:, 1:] > u[:, :1]).float()
    return torch.stack([mask_BP, 1.0 - mask_BP, torch.ones_like(mask_BP)], dim=1)


def hide(pixels_BCHX: Tensor, mask_BVP: Tensor, grid: tuple[int, int]) -> Tensor:
    """Normalised pixels of each masked view, (B·V, C, H, X); 0 where a patch is masked and beyond whole patches."""
    high, wide = (side // n for side, n in zip(pixels_BCHX.shape[-2:], grid, strict=True))
    shown = mask_BVP.unflatten(-1, grid).repeat_interleave(high, -2).repeat_interleave(wide, -1)
    down, across = (side - n for side, n in zip(pixels_BCHX.shape[-2:], shown.shape[-2:], strict=True))
    return (pixels_BCHX[:, None] * F.pad(shown, (0, across, 0, down))[:, :, None]).flatten(0, 1)


@torch.no_grad()
def sequence(tower: Any, pixels_BCHX: Tensor, skip: int) -> Tensor:
    """All tokens (B, T, W) of a tower ``skip`` blocks before its end."""
    x_BTW = tower.embed(pixels_BCHX).x_BTD
    for block in tower.blocks[: len(tower.blocks) - skip]:
        x_BTW = block(x_BTW)
    return x_BTW


class Decoder(nn.Module):
    """A small transformer from masked patch tokens to the teacher's tokens."""

    def __init__(self, tokens: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads, 4 * width) for _ in range(layers))
        self.norm = LayerNorm(width)
        self.head = nn.Linear(width, width)

    def forward(self, patch_BPW: Tensor, mask_BVP: Tensor) -> Tensor:
        """(B, V, T, W) of the views that ``mask_BVP`` leaves."""
        kept = (patch_BPW[:, None] * mask_BVP[..., None].to(patch_BPW.dtype)).flatten(0, 1)
        x = F.pad(kept, (0, 0, len(self.position) - kept.shape[1], 0)) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)).unflatten(0, mask_BVP.shape[:2])


class Method(nn.Module):
    """The decoder, and the two passes: the tower on whole pictures, the teacher on masked ones."""

    def __init__(self, model: DualEncoder, options: Options) -> None:
        super().__init__()
        self.options, tower = options, model.image
        blocks = list(tower.blocks)
        if len(blocks) <= options.skip or not isinstance(blocks[-1], Block):
            why = f"its image tower has {len(blocks)} transformer blocks"
            raise UsageError(f"objective {CARD.id!r} with model {model.config.name!r}", why, "Use a vision transformer, or a smaller skip")
        with torch.no_grad():
            blank = tower.embed(torch.zeros(1, 3, *tower.image_size, device=model.device))
        self.grid = blank.grid
        self.decoder = Decoder(blank.x_BTD.shape[1], blank.x_BTD.shape[2], blocks[-1].attention.heads, options.layers)

    def rows(self, see: See) -> dict[str, Tensor]:
        """What decoder and teacher say of each masked view, and both pooled rows of the whole picture."""
        if see.tokens is not None:
            raise UsageError(f"objective {CARD.id!r} with a token method", "it masks patches itself", "Leave out one of them")
        pixels_BCHX = see.model.normalise(see.image_BCHW)
        row_BW, taps = see.model.image(pixels_BCHX, taps={"image.tokens"})
        patch_BPW = taps["image.tokens"]
        mask_BVP = draw_masks(len(patch_BPW), patch_BPW.shape[1], see.draw)
        seen = sequence(see.teacher.image, hide(pixels_BCHX, mask_BVP, self.grid), self.options.skip)
        with torch.no_grad():
            row_seen_BW = see.teacher.image(pixels_BCHX)[0] if self.options.pooled_weight else row_BW.detach()
        told = self.decoder(patch_BPW, mask_BVP)
        return {"told": told, "seen": seen.unflatten(0, mask_BVP.shape[:2]), "row": row_BW, "row_seen": row_seen_BW}

    def forward(self, pairs: Pairs) -> Loss:
        """:func:`locality_alignment` with the run's options."""
        return locality_alignment(pairs, pooled_weight=self.options.pooled_weight)
