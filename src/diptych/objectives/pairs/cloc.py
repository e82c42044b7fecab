"""CLOC: a prompter turns patch tokens and a box into the region's row, which is contrasted with the region's text beside CLIP's loss.

Paper: Chen et al., "Contrastive Localized Language-Image Pre-Training", arXiv:2410.02746, section 3: promptable embeddings, the
region–text contrastive loss, the grounding loss, and the lightweight prompter (one transformer layer with one head).
Code: none is public.
Relations: with both weights 0 it is ``clip``; ``grain`` finds the regions itself, by learned queries.

Shapes: B rows of this rank, N of all ranks, R regions a picture, T patch tokens, W the tower's width, D embedding width.

With regions z[i][r] = prompter(patch tokens of picture i, box l[i][r]), their texts t[i][r] and all texts of the batch::

    for each region (i, r):
        to_text[i] += -log(exp(s * z[i][r] @ t[i][r]) / sum(exp(s * z[i][r] @ t) for t in all region texts)) / regions of i
        to_region[i] += the same with z and t exchanged
        ground[i] += mean(abs(prompter(patch tokens of i, t[i][r]) - l[i][r])) / regions of i
    loss = clip(u, v) + region_weight * mean(to_text + to_region) / 2 + grounding_weight * mean(ground)

Equal region texts in a batch are positives of one another (the paper filters near-duplicates out). Left open by what of the paper could be
read, and so ours: the prompt of a box is the sum of two linear maps of its corners' sines and cosines; patch tokens get those of their
middles; the prompt of a text is a linear map of its unit row, which gets no gradient there; the box is regressed by its mean absolute error
alone; both weights. Boxes are the data's, at most four a picture; the paper's come from a detector and a captioner. The prompter is
trained beside the model and lies in the run's checkpoint; the model itself stays an ordinary dual encoder.
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
    where="section 3, promptable embeddings and the region–text contrastive loss",
    needs=frozenset({"image.tokens"}),
    claim="high-quality regional recognition and retrieval; a drop-in replacement of CLIP that improves referring and grounding",
    published="region tasks above CLIP throughout, image tasks held (abstract; tables of section 5)",
)
EXTRA = regions.EXTRA
COLUMNS = frozenset({"region", "region_text", "region_number", "box"})


class Options(BaseModel):
    """Settings of :func:`cloc`.

    Args:
        region_weight: of the region–text contrast, the mean of its two directions.
        grounding_weight: of the boxes found from texts; 0 leaves that head out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    region_weight: float = Field(default=1.0, ge=0.0)
    grounding_weight: float = Field(default=1.0, ge=0.0)


def chance(batch: int) -> float | None:
    """None: it depends on how many regions there are."""
    return None


def cloc(pairs: Pairs, *, region_weight: float = 1.0, grounding_weight: float = 1.0) -> Loss:
    """The loss of this rank's rows against the columns of all ranks.

    Args:
        pairs: unit rows; ``taps`` and ``columns`` region and region_text (B, R, D) unit rows, region_number (B, R; equal numbers are equal
            texts) and box (B, R, 4); ``taps`` also found (B, R, 4), the boxes found from the texts. A box without area does not count.
        region_weight, grounding_weight: see :class:`Options`.

    Returns:
        ``terms`` image_to_text, text_to_image, regions and grounding (weighted); ``report`` the share of regions whose best text is
        theirs, and what ``clip`` reports.
    """
    whole = clip(pairs)
    mine, every = pairs.taps, pairs.columns
    there_BR, there_NR = regions.there(mine["box"]), regions.there(every["box"])
    sides = (mine["region_number"], every["region_number"], there_BR, there_NR, pairs.scale)
    to_text, right = regions.contrast(mine["region"], every["region_text"], *sides)
    to_region, _ = regions.contrast(mine["region_text"], every["region"], *sides)
    wide = whole.total.dtype
    away_BR = (mine["found"].to(wide) - mine["box"].to(wide)).abs().mean(-1)
    local = region_weight * (to_text + to_region) / 2
    ground = grounding_weight * regions.mean_of_regions(away_BR, there_BR)
    terms = {**whole.terms, "regions": local, "grounding": ground}
    return Loss(whole.total + local + ground, terms, {**whole.report, "region_accuracy": right.detach()})


class Prompter(nn.Module):
    """One transformer layer with one head over a prompt and the patch tokens; the prompt's row is the answer."""

    def __init__(self, width: int, embed_dim: int) -> None:
        super().__init__()
        self.patch = nn.Linear(4 * regions.BANDS, width)
        self.corners = nn.Linear(8 * regions.BANDS, width)
        self.words = nn.Linear(embed_dim, width)
        self.block = Block(width, 1, 4 * width)
        self.norm = LayerNorm(width)
        self.region = nn.Linear(width, embed_dim, bias=False)
        self.box = nn.Linear(width, 4)

    def _ask(self, tokens_BTW: Tensor, grid: tuple[int, int], prompt_BRW: Tensor) -> Tensor:
        """The prompts' rows (B, R, W) after the layer; each prompt sees itself and the patch tokens alone."""
        places_TW = self.patch(regions.fourier(regions.centres(grid, tokens_BTW.device), regions.BANDS))
        tokens_BRTW = (tokens_BTW + places_TW)[:, None].expand(-1, prompt_BRW.shape[1], -1, -1)
        together_BRTW = torch.cat([prompt_BRW[:, :, None].to(tokens_BRTW.dtype), tokens_BRTW], dim=2)
        return self.norm(self.block.row(together_BRTW.flatten(0, 1))).unflatten(0, prompt_BRW.shape[:2])

    def regions(self, tokens_BTW: Tensor, grid: tuple[int, int], box_BR4: Tensor) -> Tensor:
        """Unit rows (B, R, D) of the regions in boxes."""
        return F.normalize(self.region(self._ask(tokens_BTW, grid, self.corners(regions.fourier(box_BR4, regions.BANDS)))), dim=-1)

    def boxes(self, tokens_BTW: Tensor, grid: tuple[int, int], text_BRD: Tensor) -> Tensor:
        """Boxes (B, R, 4; x0, y0, x1, y1 in 0…1) found from unit rows of texts."""
        return self.box(self._ask(tokens_BTW, grid, self.words(text_BRD))).sigmoid()


class Method(nn.Module):
    """The prompter, trained beside the model."""

    def __init__(self, model: DualEncoder, options: Options) -> None:
        super().__init__()
        self.options = options
        self.prompter = Prompter(model.image.width, model.embed_dim)

    def rows(self, see: See) -> dict[str, Tensor]:
        """Region rows, their texts' rows and numbers, boxes, and the boxes found from the texts."""
        tokens_BTW, made = see.taps["image.tokens"], regions.region_rows(see)
        grid = regions.grid_of(see, tokens_BTW, CARD.id)
        found = self.prompter.boxes(tokens_BTW, grid, made["region_text"].detach()) if self.options.grounding_weight else made["box"]
        return {**made, "region": self.prompter.regions(tokens_BTW, grid, made["box"]), "found": found}

    def forward(self, pairs: Pairs) -> Loss:
        """:func:`cloc` with the run's options."""
        return cloc(pairs, **self.options.model_dump())
