"""BYOL: one view predicts what a slowly following copy of the network says of the other view; there are no negatives.

Paper: Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", arXiv:2006.07733, section 3.1 equations 1
and 2, section 3.3 (heads, schedule of the average).
Code: https://github.com/google-deepmind/deepmind-research/tree/master/byol
Relations: ``vi-simsiam`` takes the network itself for the copy; ``wenlan-brivl`` uses a copy for negatives.

Shapes: B rows of this rank, W the tower's width, D the head's width.

With predictions p of the network and projections t of the copy (no gradient), of the two views::

    for i in rows:
        loss += 2 - 2 * cosine(p[0][i], t[1][i]) + 2 - 2 * cosine(p[1][i], t[0][i])
    loss /= B

The copy's weights are ``a ← m·a + (1 − m)·w`` after each step, with m rising from ``momentum`` to 1 along half a cosine. The tower's
copy is the engine's; the projector's is kept here and takes the weights in at the next step, so it is one step older. Paper: projector and
predictor of one hidden layer, 4096, batch norm, output 256; ``momentum`` 0.996 over 1000 epochs. Short runs want a copy that follows
faster: 0.99 is the default here. The paper blurs one view and solarises some of the others; the views here are SimCLR's, both alike.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.core.card import Card
from diptych.core.types import Loss, Pairs
from diptych.objectives.parts.followed import FollowedProjector, cosine_decay
from diptych.objectives.parts.heads import Norm, mlp
from diptych.objectives.parts.views import SIMCLR_VIEW, each, pooled_views, spread, wide
from diptych.towers.dual import DualEncoder
from diptych.towers.see import See

CARD = Card(
    id="byol",
    name="BYOL",
    family="views",
    paper="Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning, arXiv:2006.07733",
    where="section 3.1, equations 1 and 2",
    code="https://github.com/google-deepmind/deepmind-research/tree/master/byol",
    needs=frozenset({"ema"}),
    claim="learns without negatives, better than contrast, and less hurt by small batches",
    published="ImageNet linear probe 74.3 % (table 1)",
)
USES: frozenset[str] = frozenset()
VIEWS = (SIMCLR_VIEW, SIMCLR_VIEW)


class Options(BaseModel):
    """Settings of BYOL's heads and of its copy; the loss has none.

    Args:
        momentum: the copy's decay at the start; it rises to 1.
        hidden: width of the projector's and the predictor's hidden layer.
        width: width of their outputs.
        norm: between a hidden layer and its ReLU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    momentum: float = Field(0.99, ge=0, le=1)
    hidden: int = Field(512, ge=1)
    width: int = Field(128, ge=2)
    norm: Norm = "batch"


def chance(batch: int) -> float:
    """The loss of predictions that tell nothing of their targets, at right angles to them: 4, whatever the batch."""
    return 4.0


def byol(pairs: Pairs) -> Loss:
    """The loss of this rank's rows.

    Args:
        pairs: ``taps`` holds the predictions ``p.0``, ``p.1`` of the two views and the copy's projections ``t.0``, ``t.1``, which
            ``rows`` gives without a graph.

    Returns:
        ``terms`` first_to_second and second_to_first; ``report`` spread of the targets, 0 when all have become one point.
    """
    unit = {name: F.normalize(wide(pairs.taps[name]), dim=1) for name in ("p.0", "p.1", "t.0", "t.1")}
    forth = 2 - 2 * (unit["p.0"] * unit["t.1"]).sum(1).mean()
    back = 2 - 2 * (unit["p.1"] * unit["t.0"]).sum(1).mean()
    return Loss(forth + back, {"first_to_second": forth, "second_to_first": back}, {"spread": spread(pairs.taps["t.0"])})


class Method(FollowedProjector):
    """Projector and predictor, and the projector's copy."""

    def __init__(self, model: DualEncoder, options: Options) -> None:
        super().__init__()
        self.start = options.momentum
        self.follow(mlp([model.image.width, options.hidden, options.width], norm=options.norm))
        self.predictor = mlp([options.width, options.hidden, options.width], norm=options.norm)

    def rows(self, see: See) -> dict[str, Tensor]:
        """``p.0``, ``p.1`` with their graph and ``t.0``, ``t.1`` without, (B, D) each."""
        online = each(lambda pooled_BW: self.predictor(self.projector(pooled_BW)), pooled_views(see, 2), "p")
        with torch.no_grad():
            return online | each(self.target, pooled_views(see, 2, model=see.ema), "t")

    def forward(self, pairs: Pairs) -> Loss:
        """See :func:`byol`; the projector's copy then takes in the weights."""
        loss = byol(pairs)
        self.take_in(cosine_decay(self.start, pairs.state["progress"]))
        return loss

    def momentum(self, progress: float) -> float:
        """Decay of the tower's copy."""
        return cosine_decay(self.start, progress)
