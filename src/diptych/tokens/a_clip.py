"""A-CLIP: the patches that matter for the words stay, as an average copy of the image tower sees them while it trains.

Paper: Yang et al., "Attentive Mask CLIP", arXiv:2212.08653, section 3 (attentive masks: attention of the class token in the EMA tower,
averaged over heads and layers; half of the tokens) and its efficient form (the EMA tower at half the resolution).
Code: https://github.com/microsoft/A-CLIP
Relations: ``random-mask`` leaves out as many without looking; the objective ``a-clip`` adds masked views and their losses.

Shapes: B rows, T tokens (prefix first), N patches, K kept ones, C channels, H height, W width (rows and columns of patches in scores).

For each image, with the EMA tower's layers and heads::

    small = shrink(image, resolution)
    score[i] = mean(attention(layer, head)[class, i] for layer in layers for head in heads)     # patches i of small
    score = upsampled to the patch grid of the image, bilinear
    kept = sorted(the K patches of largest score)                  # K = N - round(ratio * N), at least 1
    tokens = prefix tokens + [patch[i] for i in kept]              # positions were added before

``resolution`` 1 is the plain form, 0.5 the efficient one. The EMA tower's positions are resampled to the smaller grid. The paper scores
one larger crop of the picture and cuts the views' scores out of it; here every view is scored by itself, since a view may be shifted and
zoomed. The paper's EMA starts at 0.996 and rises to 1 along half a cosine; short runs want a copy that follows faster: 0.99 is the default.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.core.types import Middle, Tokens
from diptych.tokens.parts.keeping import keep

CARD = Card(
    id="a-clip",
    name="A-CLIP",
    family="tokens",
    paper="Attentive Mask CLIP, arXiv:2212.08653",
    where="section 3, attentive mask and its efficient form",
    code="https://github.com/microsoft/A-CLIP",
    needs=frozenset({"ema"}),
    claim="half of the tokens, chosen by attention, train better than all and than a random half",
    published="ImageNet zero-shot 39.5 with one attentive half, 35.0 with a random half, 37.6 with all (ViT-B/16, YFCC-15M)",
)


class Options(BaseModel):
    """Settings of :func:`a_clip`.

    Args:
        ratio: share of patches left out, in [0, 1); at least one patch stays.
        resolution: side of the pictures that the EMA tower scores, as a share of the model's; 0.5 is the efficient form.
        momentum: the EMA's decay at the start, from which it rises to 1; an objective that keeps an EMA itself decides instead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    ratio: float = Field(default=0.5, ge=0.0, lt=1.0)
    resolution: float = Field(default=1.0, gt=0.0, le=1.0)
    momentum: float = Field(default=0.99, ge=0.0, le=1.0)


class Watch:
    """Adds up the class token's attention over the blocks of a tower, and changes nothing that the pooled row depends on."""

    name = "a-clip"
    uses: ClassVar[frozenset[str]] = frozenset({"class_attention"})

    def __init__(self, class_only: bool) -> None:
        self.class_only, self.grid, self.blocks = class_only, (0, 0), 0
        self.sum_BT: Tensor | None = None

    def after_embed(self, tokens: Tokens) -> Tokens:
        """Note the grid."""
        self.grid = tokens.grid
        return tokens

    def after_block(self, index: int, tokens: Tokens) -> Tokens:
        """Nothing."""
        return tokens

    def acts(self, index: int, depth: int) -> bool:
        """In every block."""
        return True

    def between(self, tokens: Tokens, middle: Middle) -> Tokens:
        """Note the attention; after the last one only the class token still matters where it alone is pooled."""
        assert middle.class_BT is not None  # the tower gives what ``uses`` names
        self.sum_BT = middle.class_BT if self.sum_BT is None else self.sum_BT + middle.class_BT
        self.blocks += 1
        last = self.class_only and middle.index == middle.depth - 1
        return replace(tokens, x_BTD=tokens.x_BTD[:, : tokens.prefix]) if last else tokens

    @property
    def score_BHW(self) -> Tensor:
        """Mean attention of the class token to each patch."""
        assert self.sum_BT is not None  # a tower has at least one block
        patches = math.prod(self.grid)
        return (self.sum_BT[:, -patches:] / self.blocks).unflatten(1, self.grid)


@torch.no_grad()
def scored(model: Any, image_BCHW: Tensor, resolution: float) -> tuple[Tensor, Tensor]:
    """Scores (B, H, W) of the patches of uint8 pictures, shrunk by ``resolution``, and the pooled rows of the same pass."""
    tower, pixels_BCHW = model.image, model.normalise(image_BCHW)
    if resolution < 1.0:
        patch = tower.config.patch
        size = [max(1, round(side * resolution / patch)) * patch for side in pixels_BCHW.shape[-2:]]
        pixels_BCHW = F.interpolate(pixels_BCHW, size=size, mode="bilinear", align_corners=False, antialias=True)
    watch = Watch(tower.config.pool == "class")
    pooled_BW, _ = tower(pixels_BCHW, tokens=watch)
    return watch.score_BHW, pooled_BW


@dataclass(slots=True)
class AClip:
    """The token method. The engine lets it :meth:`look` at a batch before the image tower does.

    Attributes:
        score_BHW: scores of the patches that were looked at.
        pooled_BW: the EMA tower's pooled rows of the same pictures, for objectives that compare with them.
    """

    ratio: float
    resolution: float
    start: float
    score_BHW: Tensor | None = None
    pooled_BW: Tensor | None = None
    name: ClassVar[str] = "a-clip"
    uses: ClassVar[frozenset[str]] = frozenset({"class_attention"})
    embed_only: ClassVar[bool] = True  # nothing happens between blocks, so that the tower may shorten its last one

    def look(self, see: Any) -> None:
        """Score the patches of ``see.image_BCHW`` by ``see.ema``."""
        self.score_BHW, self.pooled_BW = scored(see.ema, see.image_BCHW, self.resolution)

    def momentum(self, progress: float) -> float:
        """Decay of the EMA: from ``start`` to 1 along half a cosine."""
        return 1.0 - (1.0 - self.start) * (math.cos(math.pi * progress) + 1.0) / 2.0

    def after_embed(self, tokens: Tokens) -> Tokens:
        """Keep the prefix and the ``N - round(ratio · N)`` patches of largest score, in their order."""
        batch, patches = len(tokens.x_BTD), tokens.x_BTD.shape[1] - tokens.prefix
        kept = max(1, patches - round(self.ratio * patches))
        if kept == patches:
            return tokens
        if self.score_BHW is None or len(self.score_BHW) != batch:
            why = "it has not looked at these pictures; it works in training, where an average of the model scores them"
            raise UsageError("token method 'a-clip'", why, "Leave it out elsewhere")
        score_BHW = F.interpolate(self.score_BHW[:, None].float(), size=tokens.grid, mode="bilinear", align_corners=False)[:, 0]
        return keep(tokens, score_BHW.flatten(1).topk(kept, dim=1, sorted=False).indices.sort(dim=1).values)

    def after_block(self, index: int, tokens: Tokens) -> Tokens:
        """Nothing is dropped later."""
        return tokens


def a_clip(*, ratio: float = 0.5, resolution: float = 1.0, momentum: float = 0.99) -> AClip:
    """The method; see :class:`Options`."""
    return AClip(ratio, resolution, momentum)
