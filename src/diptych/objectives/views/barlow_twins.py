"""Barlow Twins: the correlation matrix of two views' coordinates is drawn to the identity.

Paper: Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", arXiv:2103.03230, equations 1 and 2, algorithm 1;
head section 2.2.
Code: https://github.com/facebookresearch/barlowtwins
Relations: ``vicreg`` splits the diagonal's part into a term of variance and one of invariance and decorrelates each view by itself;
``simclr`` compares rows where this compares columns.

Shapes: N rows of all ranks, W the tower's width, D the head's width, E the same D of the other view.

With rows a and b of the two views of all pictures::

    for v in (a, b):
        for d in coordinates:
            v[:, d] = (v[:, d] - mean(v[:, d])) / sqrt(var(v[:, d]) + 1e-5)              # over the N pictures, variance over N
    for d in coordinates:
        for e in coordinates:
            C = sum(a[n][d] * b[n][e] for n in pictures) / N
            loss += (1 - C) ** 2 if d == e else off_diagonal * C ** 2

Equation 2 divides by the norms of the centred columns; the 1e-5 (as in a batch norm, which algorithm 1 suggests) keeps a constant column
finite. The statistics are over the rows of all ranks. Paper: three layers of 8192, batch norm, ``off_diagonal`` 0.005.
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
    id="barlow-twins",
    name="Barlow Twins",
    family="views",
    paper="Barlow Twins: Self-Supervised Learning via Redundancy Reduction, arXiv:2103.03230",
    where="equations 1 and 2",
    code="https://github.com/facebookresearch/barlowtwins",
    claim="needs neither large batches nor an asymmetry of the two networks, and gains from very wide outputs",
    published="ImageNet linear probe 73.2 % (table 1); 1 % of the labels 55.0 % (table 2)",
)
USES: frozenset[str] = frozenset()
VIEWS = (SIMCLR_VIEW, SIMCLR_VIEW)
COLUMNS = frozenset({"z.0", "z.1"})
EPS = 1e-5


class Options(BaseModel):
    """Settings of :func:`barlow_twins` and its head.

    Args:
        off_diagonal: weight of what is beside the diagonal (the paper's λ).
        hidden: width of the head's two hidden layers.
        width: width of the head's output.
        norm: between a hidden layer and its ReLU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    off_diagonal: float = Field(0.005, ge=0)
    hidden: int = Field(512, ge=1)
    width: int = Field(512, ge=2)
    norm: Norm = "batch"


def chance(batch: int) -> None:
    """None: the loss of rows that tell nothing depends on the head's width, not on the batch."""
    return


def _standard(z_ND: Tensor) -> Tensor:
    """Columns with mean 0 and variance 1 over all rows."""
    return (z_ND - z_ND.mean(0)) * (z_ND.var(0, unbiased=False) + EPS).rsqrt()


def barlow_twins(pairs: Pairs, *, off_diagonal: float = 0.005) -> Loss:
    """The same loss on every rank, of the rows of all.

    Args:
        pairs: ``columns`` holds ``z.0`` and ``z.1``, the head's rows of the two views.
        off_diagonal: see :class:`Options`.

    Returns:
        ``terms`` diagonal and off_diagonal (weighted); ``report`` spread.
    """
    first_ND, second_ND = _standard(wide(pairs.columns["z.0"])), _standard(wide(pairs.columns["z.1"]))
    correlation_DE = first_ND.T @ second_ND / len(first_ND)
    diagonal_D = correlation_DE.diagonal()
    on = (1 - diagonal_D).square().sum()
    off = off_diagonal * (correlation_DE - torch.diag(diagonal_D)).square().sum()
    return Loss(on + off, {"diagonal": on, "off_diagonal": off}, {"spread": spread(pairs.columns["z.0"])})


class Method(nn.Module):
    """The head of Barlow Twins."""

    def __init__(self, model: DualEncoder, options: Options) -> None:
        super().__init__()
        self.options = options
        self.head = mlp([model.image.width, options.hidden, options.hidden, options.width], norm=options.norm)

    def rows(self, see: See) -> dict[str, Tensor]:
        """``z.0`` and ``z.1``, (B, D) each."""
        return each(self.head, pooled_views(see, 2))

    def forward(self, pairs: Pairs) -> Loss:
        """See :func:`barlow_twins`."""
        return barlow_twins(pairs, off_diagonal=self.options.off_diagonal)
