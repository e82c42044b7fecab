"""CLOC: a prompter turns patch tokens and a box into the region's row, which is contrasted with the region's text beside CLIP's loss.

Paper: Chen et al., "Contrastive Localized Language-Image Pre-Training", arXiv:2410.02746, sections 3.2 to 3.4 (equations 2 to 4, the
prompter, what is left out of the denominators) and table A (λ = 1, M = 4, one layer with one head, a box head of two layers with GELU).
Code: none is public.
Relations: with both weights 0 it is ``clip``; ``grain`` finds the regions itself, by learned queries.

Shapes: B rows of this rank, N of all ranks, R regions a picture, M = N·R, T patch tokens, W the tower's width, D embedding width.

With regions z[i][r] = prompter(box l[i][r], patch tokens of picture i), their texts y[i][r] and found[i][r] = head(prompter(y[i][r], …))::

    for each region (i, r):
        others = the regions (j, q) of the batch with y[i][r] @ y[j][q] <= similar, and (i, r) itself
        to_text[i] += -log(exp(s * z[i][r] @ y[i][r]) / sum(exp(s * z[i][r] @ y[j][q]) for j, q in others)) / regions of i
        to_region[i] += the same with z and y exchanged
        ground[i] += sum((found[i][r] - l[i][r])**2) / 4 / regions of i
    loss = clip(u, v) + region_weight * mean(to_text + to_region) / 2 + grounding_weight * mean(ground)

The mean is over all pictures, 0 for one that shows no region, which is the paper's λ = 1 × share of pictures with regions. The prompter is
a transformer layer over the prompt (two corners, each by sines and cosines; or a text's row) and the patch tokens, their mean, and a
projection. Ours, where the paper says nothing: sines and cosines of six octaves through a linear map, and the same for the middles of
patches, added to their tokens, which are taken after the tower's final norm. Of more than four regions the first four are taken, where
the paper draws. Boxes are the data's; the paper's come from a captioner and a detector. The prompter lies in the run's checkpoint; the
model itself stays an ordinary dual encoder.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.card import Card
from diptych.core.types import Loss, Pairs
from diptych.objectives.parts import regions
from diptych.objectives.parts.clip_loss import clip
from diptych.towers.dual import DualEncoder
from diptych.towers.layers import Block, LayerNorm
from diptych.towers.see import See

CARD = Card(
    id="cloc",
    name="CLOC",
    family="objective",
    paper="Contrastive Localized Language-Image Pre-Training, arXiv:2410.02746",
    where="sections 3.2 to 3.4, equations 2 to 4, and table A",
    needs=frozenset({"image.tokens"}),
    claim="high-quality regional recognition and retrieval; a drop-in replacement of CLIP that improves referring and grounding",
    published="COCO object recognition 71.1 mAcc, GRIT region retrieval 63.9 and 65.9 at 10, ImageNet 74.9 beside CLIP's 76.2 (table 2)",
)
EXTRA = {"boxes": regions.boxes, "text.regions": regions.texts}
COLUMNS = frozenset({"region", "region_text", "box"})


class Options(BaseModel):
    """Settings of :func:`cloc`.

    Args:
        region_weight: of the region–text contrast, the mean of its two directions.
        grounding_weight: of the boxes found from texts; 0 leaves that head out.
        similar: cosine above which another region's text is no negative.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    region_weight: float = Field(default=1.0, ge=0.0)
    grounding_weight: float = Field(default=1.0, ge=0.0)
    similar: float = Field(default=0.9, gt=0.0, le=1.0)


def chance(batch: int) -> float | None:
    """None: it depends on how many regions there are."""
    return None


def cloc(pairs: Pairs, *, region_weight: float = 1.0, grounding_weight: float = 1.0, similar: float = 0.9) -> Loss:
    """The loss of this rank's rows against the columns of all ranks.

    Args:
        pairs: unit rows; ``taps`` and ``columns`` region and region_text (B, R, D) unit rows and box (B, R, 4); ``taps`` also found
            (B, R, 4), the boxes found from the texts. A box without area does not count.
        region_weight, grounding_weight, similar: see :class:`Options`.

    Returns:
        ``terms`` image_to_text, text_to_image, regions and grounding (weighted); ``report`` the share of regions whose best text is
        theirs, and what ``clip`` reports.
    """
    whole = clip(pairs)
    wide = whole.total.dtype
    mine, every = pairs.taps, pairs.columns
    there_BR, there_NR = regions.there(mine["box"]), regions.there(every["box"])
    number_BR = torch.arange(there_BR.numel(), device=there_BR.device).view_as(there_BR) + pairs.offset * there_BR.shape[1]
    own_BRM = number_BR[..., None] == torch.arange(there_NR.numel(), device=there_BR.device)
    with torch.no_grad():
        alike_BRM = mine["region_text"].to(wide) @ every["region_text"].to(wide).flatten(0, 1).T > similar
    sides = (own_BRM, own_BRM | (there_NR.flatten() & ~alike_BRM), there_BR, pairs.scale)
    to_text, right = regions.contrast(mine["region"], every["region_text"], *sides)
    to_region, _ = regions.contrast(mine["region_text"], every["region"], *sides)
    away_BR = (mine["found"].to(wide) - mine["box"].to(wide)).square().mean(-1)
    local = region_weight * (to_text + to_region) / 2
    ground = grounding_weight * regions.mean_of_regions(away_BR, there_BR)
    terms = {**whole.terms, "regions": local, "grounding": ground}
    return Loss(whole.total + local + ground, terms, {**whole.report, "region_accuracy": right.detach()})


class Prompter(nn.Module):
    """One transformer layer with one head over a prompt and the patch tokens, then their mean."""

    def __init__(self, width: int, embed_dim: int) -> None:
        super().__init__()
        self.patch = nn.Linear(4 * regions.BANDS, width)
        self.corner = nn.ModuleList(nn.Linear(4 * regions.BANDS, width) for _ in range(2))
        self.words = nn.Linear(embed_dim, width)
        self.block = Block(width, 1, 4 * width)
        self.norm = LayerNorm(width)
        self.region = nn.Linear(width, embed_dim, bias=False)
        self.box = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 4))

    def _ask(self, tokens_BTW: Tensor, grid: tuple[int, int], prompt_BRPW: Tensor) -> Tensor:
        """One row a prompt (B, R, W); each of the R prompts, of P tokens, sees itself and the patch tokens alone."""
        places_TW = self.patch(regions.fourier(regions.centres(grid, tokens_BTW.device), regions.BANDS))
        tokens_BRTW = (tokens_BTW + places_TW)[:, None].expand(-1, prompt_BRPW.shape[1], -1, -1)
        together_BRTW = torch.cat([prompt_BRPW.to(tokens_BRTW.dtype), tokens_BRTW], dim=2)
        return self.norm(self.block(together_BRTW.flatten(0, 1))).mean(1).unflatten(0, prompt_BRPW.shape[:2])

    def regions(self, tokens_BTW: Tensor, grid: tuple[int, int], box_BR4: Tensor) -> Tensor:
        """Unit rows (B, R, D) of the regions in boxes."""
        corners = [corner(regions.fourier(box_BR4[..., 2 * i : 2 * i + 2], regions.BANDS)) for i, corner in enumerate(self.corner)]
        return F.normalize(self.region(self._ask(tokens_BTW, grid, torch.stack(corners, dim=2))), dim=-1)

    def boxes(self, tokens_BTW: Tensor, grid: tuple[int, int], text_BRD: Tensor) -> Tensor:
        """Boxes (B, R, 4; x0, y0, x1, y1 in 0…1) found from unit rows of texts."""
        return self.box(self._ask(tokens_BTW, grid, self.words(text_BRD)[:, :, None])).sigmoid()


class Method(nn.Module):
    """The prompter, trained beside the model."""

    def __init__(self, model: DualEncoder, options: Options) -> None:
        super().__init__()
        self.options = options
        self.prompter = Prompter(model.image.width, model.embed_dim)

    def rows(self, see: See) -> dict[str, Tensor]:
        """Region rows, their texts' rows, boxes, and the boxes found from the texts."""
        tokens_BTW, made = see.taps["image.tokens"], {"region_text": see.text("regions"), "box": see.extra["boxes"]}
        grid = regions.grid_of(see, tokens_BTW, CARD.id)
        found = self.prompter.boxes(tokens_BTW, grid, made["region_text"]) if self.options.grounding_weight else made["box"]
        return {**made, "region": self.prompter.regions(tokens_BTW, grid, made["box"]), "found": found}

    def forward(self, pairs: Pairs) -> Loss:
        """:func:`cloc` with the run's options."""
        return cloc(pairs, **self.options.model_dump())
