"""VICReg: views of a picture agree (invariance), no coordinate dies (variance), no two say the same (covariance).

Paper: Bardes, Ponce and LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning", arXiv:2105.04906,
section 4.1 equations 1–6, algorithm 1 in appendix A.
Code: https://github.com/facebookresearch/vicreg
Relations: ``barlow-twins`` decorrelates across the views; here each view is held up by itself, so that the views may even come of
different networks.

Shapes: B rows of this rank, N rows of all ranks, W the tower's width, D the head's width.

With rows a and b of the two views::

    invariance = mean((a[i][d] - b[i][d]) ** 2 for i in rows for d in coordinates)
    for v in (a, b):                                                                      # over the N pictures of all ranks
        std = [sqrt(var(v[:, d]) + 1e-4) for d in coordinates]                            # variance over N - 1
        variance += mean(max(0, target - s) for s in std)
        covariance += sum(cov(v)[d][e] ** 2 for d in coordinates for e in coordinates if d != e) / D
    loss = invariance_weight * invariance + variance_weight * variance + covariance_weight * covariance

The paper gives the first term twice: equation 5 sums the squared differences over coordinates, algorithm 1 takes their mean. The weights
25, 25, 1 belong to algorithm 1, which is what stands here. (The authors' code also halves ``variance``; that is this loss with
``variance_weight`` 12.5.) Paper: head of three layers of 8192 with batch norm.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from diptych.core.card import Card
from diptych.core.types import Loss, Pairs
from diptych.objectives.parts.heads import Norm, mlp
from diptych.objectives.parts.views import SIMCLR_VIEW, each, pooled_views, spread, wide
from diptych.towers.dual import DualEncoder
from diptych.towers.see import See

CARD = Card(
    id="vicreg",
    name="VICReg",
    family="views",
    paper="VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning, arXiv:2105.04906",
    where="section 4.1, algorithm 1",
    code="https://github.com/facebookresearch/vicreg",
    claim="avoids collapse by a term on the variance of each coordinate, on par with the methods that need more",
    published="ImageNet linear probe 73.2 % (table 1)",
)
USES: frozenset[str] = frozenset()
VIEWS = (SIMCLR_VIEW, SIMCLR_VIEW)
COLUMNS = frozenset({"z.0", "z.1"})
EPS = 1e-4


class Options(BaseModel):
    """Settings of :func:`vicreg` and its head.

    Args:
        invariance_weight, variance_weight, covariance_weight: the paper's λ, μ and ν.
        target: the standard deviation below which a coordinate is pushed up (the paper's γ).
        hidden: width of the head's two hidden layers.
        width: width of the head's output.
        norm: between a hidden layer and its ReLU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    invariance_weight: float = Field(25.0, ge=0)
    variance_weight: float = Field(25.0, ge=0)
    covariance_weight: float = Field(1.0, ge=0)
    target: float = Field(1.0, gt=0)
    hidden: int = Field(512, ge=1)
    width: int = Field(512, ge=2)
    norm: Norm = "batch"


def chance(batch: int) -> None:
    """None: collapsed rows cost 2 · ``variance_weight`` · (``target`` − 0.01), whatever the batch."""
    return


def _dead(z_ND: Tensor, target: float) -> Tensor:
    """Mean over coordinates of what their standard deviation lacks."""
    return (target - (z_ND.var(0) + EPS).sqrt()).relu().mean()


def _covariance(z_ND: Tensor) -> Tensor:
    """Sum of the squared covariances of different coordinates, divided by their number."""
    centred_ND = z_ND - z_ND.mean(0)
    covariance_DD = centred_ND.T @ centred_ND / (len(z_ND) - 1)
    return (covariance_DD - torch.diag(covariance_DD.diagonal())).square().sum() / z_ND.shape[1]


def vicreg(
    pairs: Pairs,
    *,
    invariance_weight: float = 25.0,
    variance_weight: float = 25.0,
    covariance_weight: float = 1.0,
    target: float = 1.0,
) -> Loss:
    """The invariance of this rank's rows, the variance and covariance of the rows of all ranks.

    Args:
        pairs: ``taps`` and ``columns`` hold ``z.0`` and ``z.1``, the head's rows of the two views.
        invariance_weight, variance_weight, covariance_weight, target: see :class:`Options`.

    Returns:
        ``terms`` invariance, variance and covariance (weighted); ``report`` spread.
    """
    first_BD, second_BD = wide(pairs.taps["z.0"]), wide(pairs.taps["z.1"])
    first_ND, second_ND = wide(pairs.columns["z.0"]), wide(pairs.columns["z.1"])
    terms = {
        "invariance": invariance_weight * (first_BD - second_BD).square().mean(),
        "variance": variance_weight * (_dead(first_ND, target) + _dead(second_ND, target)),
        "covariance": covariance_weight * (_covariance(first_ND) + _covariance(second_ND)),
    }
    return Loss(terms["invariance"] + terms["variance"] + terms["covariance"], terms, {"spread": spread(first_ND)})


class Method(nn.Module):
    """VICReg's head (the paper's expander)."""

    def __init__(self, model: DualEncoder, options: Options) -> None:
        super().__init__()
        self.weights = options.model_dump(include={"invariance_weight", "variance_weight", "covariance_weight", "target"})
        self.head = mlp([model.image.width, options.hidden, options.hidden, options.width], norm=options.norm)

    def rows(self, see: See) -> dict[str, Tensor]:
        """``z.0`` and ``z.1``, (B, D) each."""
        return each(self.head, pooled_views(see, 2))

    def forward(self, pairs: Pairs) -> Loss:
        """See :func:`vicreg`."""
        return vicreg(pairs, **self.weights)
