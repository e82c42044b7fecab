"""GRAIN: learned queries find regions; each matched one is drawn to its box and to its description, beside CLIP's loss.

Paper: Halbe et al., "Grounding Descriptions in Images informs Zero-Shot Visual Recognition", arXiv:2412.04429, section 3: a decoder with
learned queries on the patch tokens, trained with L = L_ic + L_box + L_rd (image–caption contrast, box regression, region–description
contrast); queries and boxes are matched one to one at least cost, as in DETR (arXiv:2005.12872, section 3.1, equations 1 and 3).
Code: https://github.com/shaunak27/grain-clip
Relations: ``cloc`` is told the box and gives its row; here boxes are only targets, and the tower has to find what is described.

Shapes: B rows of this rank, N of all ranks, Q queries, R regions a picture, T patch tokens, W the tower's width, D embedding width.

With queries' rows z, queries' boxes b, true boxes l, descriptions t, and the cost c(b, l) = l1 · Σ|b − l| + giou · (1 − GIoU(b, l))::

    for each picture i:
        match = the assignment of a query q to each region r of i, no query twice, with least sum of c(b[i][q], l[i][r])
        for r, q in match:
            box[i]  += c(b[i][q], l[i][r]) / regions of i
            desc[i] += -log(exp(s * z[i][q] @ t[i][r]) / sum(exp(s * z[i][q] @ t) for t in all descriptions)) / regions of i
    loss = clip(u, v) + box_weight * mean(box) + description_weight * mean(desc)

Equal descriptions in a batch are positives of one another. DETR's 5 and 2 weigh the two parts of a box's cost. In the paper the picture's
own row is a further query's output; here it stays the tower's pooled row, so that what leaves training is an ordinary dual encoder, and the
queries act on it through the patch tokens. The decoder here has one layer by default (``layers``); its queries see one another and the
tokens at once, in one attention. Boxes and descriptions are the data's, at most four a picture, so that the matching can be exhaustive; the
paper's come from a multimodal language model and a detector.
"""

from __future__ import annotations

import functools
import itertools

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
    id="grain",
    name="GRAIN",
    family="objective",
    paper="Grounding Descriptions in Images informs Zero-Shot Visual Recognition, arXiv:2412.04429",
    where="section 3, L_ic + L_box + L_rd",
    code="https://github.com/shaunak27/grain-clip",
    needs=frozenset({"image.tokens"}),
    claim="descriptions grounded in regions improve zero-shot recognition, of concepts never seen too, and retrieval",
    published="better zero-shot accuracy than earlier methods on 11 data sets (abstract); no single figure",
)
EXTRA = {"boxes": regions.boxes, "text.regions": regions.texts, "region_numbers": regions.numbers}
COLUMNS = frozenset({"region_text", "region_number", "box"})


class Options(BaseModel):
    """Settings of :func:`grain`.

    Args:
        box_weight, description_weight: of the two losses on regions; the paper sums them.
        l1, giou: of the two parts of a box's cost.
        queries: Q, at least as many as a picture has regions (4).
        layers: of the decoder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    box_weight: float = Field(default=1.0, ge=0.0)
    description_weight: float = Field(default=1.0, ge=0.0)
    l1: float = Field(default=5.0, ge=0.0)
    giou: float = Field(default=2.0, ge=0.0)
    queries: int = Field(default=5, ge=regions.MOST, le=8)
    layers: int = Field(default=1, ge=1, le=6)


def chance(batch: int) -> float | None:
    """None: it depends on the regions and on how far boxes are off."""
    return None


def overlap(a_4: Tensor, b_4: Tensor) -> Tensor:
    """Generalised intersection over union of boxes x0, y0, x1, y1 in the last dimension (Rezatofighi et al., arXiv:1902.09630)."""

    def area(low_2: Tensor, high_2: Tensor) -> Tensor:
        return (high_2 - low_2).clamp_min(0.0).prod(-1)

    inside = area(torch.maximum(a_4[..., :2], b_4[..., :2]), torch.minimum(a_4[..., 2:], b_4[..., 2:]))
    hull = area(torch.minimum(a_4[..., :2], b_4[..., :2]), torch.maximum(a_4[..., 2:], b_4[..., 2:])).clamp_min(1e-9)
    union = (area(a_4[..., :2], a_4[..., 2:]) + area(b_4[..., :2], b_4[..., 2:]) - inside).clamp_min(1e-9)
    return inside / union - (hull - union) / hull


@functools.cache
def assignments(queries: int, count: int) -> Tensor:
    """Every way to give ``count`` regions a query each, none twice: (ways, count)."""
    return torch.tensor(list(itertools.permutations(range(queries), count)))


def match(cost_BQR: Tensor, there_BR: Tensor) -> Tensor:
    """Which query belongs to each region, (B, R): the assignment of least cost, regions that are not there costing nothing."""
    ways_AR = assignments(cost_BQR.shape[1], cost_BQR.shape[2]).to(cost_BQR.device)
    cost_BQR = cost_BQR.detach() * there_BR[:, None].to(cost_BQR.dtype)
    sums_BA = sum(cost_BQR[:, ways_AR[:, r], r] for r in range(cost_BQR.shape[2]))
    return ways_AR[sums_BA.argmin(1)]  # type: ignore[union-attr]


def grain(pairs: Pairs, *, box_weight: float = 1.0, description_weight: float = 1.0, l1: float = 5.0, giou: float = 2.0) -> Loss:
    """The loss of this rank's rows against the columns of all ranks.

    Args:
        pairs: unit rows; ``taps`` query (B, Q, D) unit rows and found (B, Q, 4), the queries' boxes; ``taps`` and ``columns`` region_text
            (B, R, D) unit rows, region_number (B, R; equal numbers are equal texts) and box (B, R, 4). A box without area does not count.
        box_weight, description_weight, l1, giou: see :class:`Options`.

    Returns:
        ``terms`` image_to_text, text_to_image, boxes and descriptions (weighted); ``report`` the share of matched queries whose best
        description is theirs, and what ``clip`` reports.
    """
    whole = clip(pairs)
    wide = whole.total.dtype
    mine, every = pairs.taps, pairs.columns
    there_BR = regions.there(mine["box"])
    found_BQ14, box_B1R4 = mine["found"].to(wide)[:, :, None], mine["box"].to(wide)[:, None]
    cost_BQR = l1 * (found_BQ14 - box_B1R4).abs().sum(-1) + giou * (1.0 - overlap(found_BQ14, box_B1R4))
    query_BR = match(cost_BQR, there_BR)
    cost_BR = cost_BQR.gather(1, query_BR[:, None])[:, 0]
    rows_BRD = mine["query"].gather(1, query_BR[..., None].expand(-1, -1, mine["query"].shape[-1]))
    same_BRM, counts_BRM = regions.equal_texts(mine["region_number"], every["region_number"], there_BR, regions.there(every["box"]))
    told, right = regions.contrast(rows_BRD, every["region_text"], same_BRM, counts_BRM, there_BR, pairs.scale)
    boxes, told = box_weight * regions.mean_of_regions(cost_BR, there_BR), description_weight * told
    terms = {**whole.terms, "boxes": boxes, "descriptions": told}
    return Loss(whole.total + boxes + told, terms, {**whole.report, "description_accuracy": right.detach()})


class Method(nn.Module):
    """The decoder: learned queries, and heads for their rows and boxes."""

    def __init__(self, model: DualEncoder, options: Options) -> None:
        super().__init__()
        self.options, width = options, model.image.width
        self.queries = nn.Parameter(torch.randn(options.queries, width) * width**-0.5)
        self.patch = nn.Linear(4 * regions.BANDS, width)
        self.blocks = nn.ModuleList(Block(width, _heads(width), 4 * width) for _ in range(options.layers))
        self.norm = LayerNorm(width)
        self.row = nn.Linear(width, model.embed_dim, bias=False)
        self.box = nn.Linear(width, 4)

    def rows(self, see: See) -> dict[str, Tensor]:
        """Queries' rows and boxes, the descriptions' rows and numbers, and the true boxes."""
        tokens_BTW = see.taps["image.tokens"]
        grid = regions.grid_of(see, tokens_BTW, CARD.id)
        places_TW = self.patch(regions.fourier(regions.centres(grid, tokens_BTW.device), regions.BANDS))
        x_BTW = torch.cat([self.queries.to(tokens_BTW.dtype).expand(len(tokens_BTW), -1, -1), tokens_BTW + places_TW], dim=1)
        for block in self.blocks:
            x_BTW = block(x_BTW)
        query_BQW = self.norm(x_BTW[:, : len(self.queries)])
        middle, side = self.box(query_BQW).sigmoid().chunk(2, dim=-1)
        found = torch.cat([middle - side / 2, middle + side / 2], dim=-1)
        told = {"region_text": see.text("regions"), "region_number": see.extra["region_numbers"], "box": see.extra["boxes"]}
        return {**told, "query": F.normalize(self.row(query_BQW), dim=-1), "found": found}

    def forward(self, pairs: Pairs) -> Loss:
        """:func:`grain` with the run's options."""
        return grain(pairs, **self.options.model_dump(exclude={"queries", "layers"}))


def _heads(width: int) -> int:
    """About 64 wide each, and as many as divide the width."""
    return next(heads for heads in range(max(1, width // 64), 0, -1) if width % heads == 0)
