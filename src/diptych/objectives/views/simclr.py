"""SimCLR: two views of a picture find one another among the views of all other pictures.

Paper: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", arXiv:2002.05709, section 2.1, equation 1
(NT-Xent) and algorithm 1; projection head section 4.2; views appendix B.9.
Code: https://github.com/google-research/simclr
Relations: ``slip`` adds this loss to ``clip``; ``e-ssl`` adds a rotation to predict; ``barlow-twins``, ``vicreg`` and ``w-mse`` do without
negatives.

Shapes: B rows of this rank, N rows of all ranks, W the tower's width, D the head's width.

With unit rows u[0][i], u[1][i] of the two views of picture i and temperature T::

    for v in (0, 1):
        for i in rows:
            others = [(w, j) for w in (0, 1) for j in columns if (w, j) != (v, i)]        # 2N - 1 of them
            loss += -log(exp(u[v][i] @ u[1 - v][i] / T) / sum(exp(u[v][i] @ u[w][j] / T) for w, j in others))
    loss /= 2 * B

Other drawings of the same concept count as negatives: the method knows no labels. The head is the paper's: one hidden layer, ReLU, no
norm (the authors' code has a batch norm: ``norm="batch"``). Paper: hidden width that of the tower, 2048, output 128, T = 0.1 on
ImageNet and 0.5 on CIFAR-10.
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
    id="simclr",
    name="SimCLR",
    family="views",
    paper="A Simple Framework for Contrastive Learning of Visual Representations, arXiv:2002.05709",
    where="section 2.1, equation 1",
    code="https://github.com/google-research/simclr",
    claim="a linear probe on features learnt without labels equals a supervised ResNet-50",
    published="ImageNet linear probe 76.5 %, with a ResNet-50 four times as wide (table 6)",
)
USES: frozenset[str] = frozenset()
VIEWS = (SIMCLR_VIEW, SIMCLR_VIEW)
COLUMNS = frozenset({"z.0", "z.1"})


class Options(BaseModel):
    """Settings of :func:`simclr` and its head.

    Args:
        temperature: divides the similarities.
        hidden: width of the head's hidden layers.
        width: width of the head's output.
        layers: linear layers of the head; 1 is a linear head, 0 none.
        norm: between a hidden layer and its ReLU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    temperature: float = Field(0.1, gt=0)
    hidden: int = Field(512, ge=1)
    width: int = Field(128, ge=2)
    layers: int = Field(2, ge=0, le=4)
    norm: Norm = "none"


def chance(batch: int) -> float:
    """The loss of rows that tell nothing: ln(2·batch − 1)."""
    return math.log(2 * batch - 1)


def simclr(pairs: Pairs, *, temperature: float = 0.1) -> Loss:
    """The loss of both views of this rank's pictures among the views of all ranks.

    Args:
        pairs: ``taps`` and ``columns`` hold ``z.0`` and ``z.1``, the head's rows (not normalised) of the two views.
        temperature: see :class:`Options`.

    Returns:
        ``terms`` contrast; ``report`` view_accuracy (the other view is the nearest) and spread.
    """
    z_BD = torch.cat([wide(pairs.taps["z.0"]), wide(pairs.taps["z.1"])])
    cols_ND = torch.cat([wide(pairs.columns["z.0"]), wide(pairs.columns["z.1"])])
    rows, columns = len(z_BD) // 2, len(cols_ND) // 2
    logits_BN = F.normalize(z_BD, dim=1) @ F.normalize(cols_ND, dim=1).T / temperature
    index_B = torch.arange(pairs.offset, pairs.offset + rows, device=z_BD.device)
    self_B = torch.cat([index_B, index_B + columns])
    other_B = torch.cat([index_B + columns, index_B])
    logits_BN = logits_BN.scatter(1, self_B[:, None], -torch.inf)
    loss = F.cross_entropy(logits_BN, other_B)
    hit = (logits_BN.detach().argmax(1) == other_B).to(z_BD.dtype).mean()
    return Loss(loss, {"contrast": loss}, {"view_accuracy": hit, "spread": spread(pairs.taps["z.0"])})


class Method(nn.Module):
    """SimCLR's projection head."""

    def __init__(self, model: DualEncoder, options: Options) -> None:
        super().__init__()
        self.options = options
        widths = [model.image.width] + [options.hidden] * (options.layers - 1) + [options.width]
        self.head = mlp(widths, norm=options.norm) if options.layers else nn.Identity()

    def rows(self, see: See) -> dict[str, Tensor]:
        """``z.0`` and ``z.1``, (B, D) each."""
        return each(self.head, pooled_views(see, 2))

    def forward(self, pairs: Pairs) -> Loss:
        """See :func:`simclr`."""
        return simclr(pairs, temperature=self.options.temperature)
