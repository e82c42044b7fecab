"""VI-SimSiam: one view predicts, as a distribution on the sphere, where the other view lies; the distribution's width is the uncertainty.

Paper: Nakamura, Okada and Taniguchi, "Representation Uncertainty in Self-Supervised Learning as Variational Inference",
arXiv:2203.11437, the section on VI-SimSiam; SimSiam's network from Chen and He, arXiv:2011.10566, section 3; density of the power spherical
distribution from De Cao and Aziz, "The Power Spherical distribution", arXiv:2006.04437.
Code: none public by the authors
Relations: ``byol`` predicts a point and has a slow copy for its target; with κ the same for all and only the cosine, this is SimSiam.

Shapes: B rows of this rank, W the tower's width, D width of the projector's rows.

With predicted mean directions m and concentrations k of the two views and the projections t of the network itself (no gradient)::

    for i in rows:
        loss += -(log_density(t[1][i], m[0][i], k[0][i]) + log_density(t[0][i], m[1][i], k[1][i])) / 2
    loss /= B

    def log_density(t, m, k):
        b = (D - 1) / 2
        a = b + k
        constant = -((a + b) * log(2) + b * log(pi) + log_gamma(a) - log_gamma(a + b))
        return constant + k * log(1 + cosine(t, m))

that is, SimSiam's cosine turned into the log-likelihood of the target under the predicted power spherical distribution. What was left open
and is done here: the predictor's last layer has D + 1 outputs, the mean direction and one number r, with κ = (D − 1)·softplus(r), so that
r near 0 stands for a mean cosine near 0.4 (it is κ / (κ + D − 1)), held between 1e-3 and ``max_concentration``; the cosine is held above
−1 + 1e-6, where the density would be 0. ``report`` has the mean κ of the first view; the uncertainty of one picture is ``-log κ`` of
:meth:`Method.concentration`. SimSiam: projector of three layers of 2048 with batch norm at the output too, predictor with a hidden layer of
a quarter.
"""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.card import Card
from diptych.core.types import Loss, Pairs
from diptych.objectives.parts.heads import Norm, mlp
from diptych.objectives.parts.views import SIMCLR_VIEW, each, pooled_views, spread, wide
from diptych.towers.dual import DualEncoder
from diptych.towers.see import See

CARD = Card(
    id="vi-simsiam",
    name="VI-SimSiam",
    family="views",
    paper="Representation Uncertainty in Self-Supervised Learning as Variational Inference, arXiv:2203.11437",
    where="the section on VI-SimSiam",
    claim="the predicted uncertainty is higher for pictures that are ambiguous, and goes with lower accuracy",
    published="figures, mostly qualitative",
)
USES: frozenset[str] = frozenset()
VIEWS = (SIMCLR_VIEW, SIMCLR_VIEW)
MIN_CONCENTRATION = 1e-3
MIN_COSINE = -1 + 1e-6


class Options(BaseModel):
    """Settings of VI-SimSiam's heads; the loss has none.

    Args:
        max_concentration: largest κ.
        hidden: width of the projector's two hidden layers.
        width: width of the projector's output; the predictor's hidden layer has a quarter of it.
        norm: between a hidden layer and its ReLU, and at the projector's output.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    max_concentration: float = Field(1e4, gt=1)
    hidden: int = Field(512, ge=1)
    width: int = Field(128, ge=8)
    norm: Norm = "batch"


def chance(batch: int) -> None:
    """None: predictions that tell nothing cost the log of the sphere's surface, which depends on the width, not on the batch."""
    return


def log_density(target_BD: Tensor, mean_BD: Tensor, kappa_B: Tensor) -> Tensor:
    """Log-density (B,) of targets under power spherical distributions; neither targets nor means need be unit rows."""
    cosine_B = (F.normalize(target_BD, dim=1) * F.normalize(mean_BD, dim=1)).sum(1).clamp(min=MIN_COSINE)
    beta = (target_BD.shape[1] - 1) / 2
    alpha_B = beta + kappa_B
    constant_B = (alpha_B + beta) * math.log(2) + beta * math.log(math.pi) + torch.lgamma(alpha_B) - torch.lgamma(alpha_B + beta)
    return kappa_B * torch.log1p(cosine_B) - constant_B


def vi_simsiam(pairs: Pairs) -> Loss:
    """The loss of this rank's rows.

    Args:
        pairs: ``taps`` holds mean directions ``m.0``, ``m.1`` (B, D), concentrations ``k.0``, ``k.1`` (B,) and the targets ``t.0``,
            ``t.1`` (B, D), which ``rows`` gives without a graph.

    Returns:
        ``terms`` first_to_second and second_to_first; ``report`` concentration (mean κ of the first view) and spread of the targets.
    """
    tap = {name: wide(value) for name, value in pairs.taps.items() if name[:2] in ("m.", "k.", "t.")}
    forth = -0.5 * log_density(tap["t.1"], tap["m.0"], tap["k.0"]).mean()
    back = -0.5 * log_density(tap["t.0"], tap["m.1"], tap["k.1"]).mean()
    report = {"concentration": tap["k.0"].detach().mean(), "spread": spread(tap["t.0"])}
    return Loss(forth + back, {"first_to_second": forth, "second_to_first": back}, report)


class Method(nn.Module):
    """Projector, and predictor of a mean direction and a concentration."""

    def __init__(self, model: DualEncoder, options: Options) -> None:
        super().__init__()
        self.width, self.largest = options.width, options.max_concentration
        self.projector = mlp([model.image.width, options.hidden, options.hidden, options.width], norm=options.norm, norm_out=True)
        self.predictor = mlp([options.width, options.width // 4, options.width + 1], norm=options.norm)

    def predict(self, z_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Mean directions (B, D), not normalised, and concentrations (B,), of projections."""
        mean_BD, raw_B1 = self.predictor(z_BD).split([self.width, 1], dim=1)
        kappa_B = (self.width - 1) * F.softplus(wide(raw_B1[:, 0]))
        return mean_BD, kappa_B.clamp(MIN_CONCENTRATION, self.largest)

    def concentration(self, pooled_BW: Tensor) -> Tensor:
        """κ (B,) of the tower's pooled rows; a batch norm takes its statistics from these rows."""
        return self.predict(self.projector(pooled_BW))[1]

    def rows(self, see: See) -> dict[str, Tensor]:
        """``m.0``, ``m.1``, ``k.0``, ``k.1`` with their graph and ``t.0``, ``t.1`` without."""
        rows = each(self.projector, pooled_views(see, 2))
        made: dict[str, Tensor] = {}
        for view in ("0", "1"):
            made[f"m.{view}"], made[f"k.{view}"] = self.predict(rows[f"z.{view}"])
            made[f"t.{view}"] = rows[f"z.{view}"].detach()
        return made

    def forward(self, pairs: Pairs) -> Loss:
        """See :func:`vi_simsiam`."""
        return vi_simsiam(pairs)
