"""W-MSE: the batch is whitened, then all views of a picture are drawn together; whitened rows cannot all be one point.

Paper: Ermolov et al., "Whitening for Self-Supervised Representation Learning", arXiv:2007.06346, section 3 (sub-batches at its
end); whitening by the Cholesky factor as in Siarohin et al., arXiv:1806.00420.
Code: https://github.com/htdt/self-supervised
Relations: ``barlow-twins`` and ``vicreg`` ask for decorrelated coordinates by a term of the loss, this makes them so.

Shapes: B rows of this rank, N rows of all ranks, K views, S rows of a sub-batch, W the tower's width, D the head's width.

With rows z[k] of view k::

    for k in views:
        for part in sub_batches(z[k]):                                                    # of equal rows for every view
            S = (1 - ridge) * covariance(part) + ridge * identity                         # over len(part) - 1
            v[k][part] = [M @ (row - mean(part)) for row in part]                         # M @ S @ M.T = identity
    for k, l in all pairs of views:
        loss += mean(2 - 2 * cosine(v[k][i], v[l][i]) for i in rows)
    loss /= K * (K - 1) / 2

M is the inverse of the lower Cholesky factor (the paper's) or, with ``whitening="zca"``, the symmetric S ** -0.5. The paper draws the
sub-batches at random and may average over several such draws; rows of a batch are already in random order, so here sub-batches are runs of
``size`` rows of the batch of all ranks, drawn once. Every rank whitens the whole batch and compares its own rows. ``ridge`` (0 in the
authors' code) keeps S invertible where there are few rows or rows have collapsed. Paper: hidden layer of 1024 with batch norm, D = 64
or 128, S of 128 or 256, two or four views.
"""

from __future__ import annotations

import itertools
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.core.types import Loss, Pairs
from diptych.objectives.parts.heads import Norm, mlp
from diptych.objectives.parts.views import SIMCLR_VIEW, pooled_views, spread, wide
from diptych.towers.dual import DualEncoder
from diptych.towers.see import See

CARD = Card(
    id="w-mse",
    name="W-MSE",
    family="views",
    paper="Whitening for Self-Supervised Representation Learning, arXiv:2007.06346",
    where="section 3",
    code="https://github.com/htdt/self-supervised",
    claim="no collapse without negatives and without asymmetric networks; four positives are better than two",
    published="CIFAR-10 linear probe 91.55 % with two positives, 91.99 % with four (table 1)",
)
USES: frozenset[str] = frozenset()
VIEWS = (SIMCLR_VIEW,) * 4
COLUMNS = frozenset({"z"})
Whitening = Literal["cholesky", "zca"]


class Options(BaseModel):
    """Settings of :func:`w_mse` and its head.

    Args:
        positives: how many of the run's four views are used.
        whitening: by the Cholesky factor, or symmetric (ZCA).
        size: rows of a sub-batch; None for the whole batch of all ranks. It has to divide that batch, and to be more than ``width``.
        ridge: share of the identity in the covariance.
        hidden: width of the head's hidden layer.
        width: width of the head's output.
        norm: between the hidden layer and its ReLU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    positives: int = Field(4, ge=2, le=4)
    whitening: Whitening = "cholesky"
    size: int | None = Field(None, ge=2)
    ridge: float = Field(1e-3, ge=0, lt=1)
    hidden: int = Field(512, ge=1)
    width: int = Field(64, ge=2)
    norm: Norm = "batch"


def chance(batch: int) -> float:
    """The loss of views that tell nothing of one another, at right angles: 2, whatever the batch."""
    return 2.0


class _InverseRoot(torch.autograd.Function):
    """``S ** -0.5`` of symmetric positive matrices; its gradient by divided differences, which equal eigenvalues leave finite."""

    @staticmethod
    def forward(ctx: Any, s_DD: Tensor) -> Tensor:  # type: ignore[override]
        value_D, vector_DD = torch.linalg.eigh(s_DD)
        root_D = value_D.clamp_min(torch.finfo(s_DD.dtype).tiny).sqrt()
        ctx.save_for_backward(root_D, vector_DD)
        return (vector_DD / root_D[..., None, :]) @ vector_DD.mT

    @staticmethod
    def backward(ctx: Any, grad_DD: Tensor) -> Tensor:  # type: ignore[override]
        root_D, vector_DD = ctx.saved_tensors
        row, column = root_D[..., :, None], root_D[..., None, :]
        inner_DD = (vector_DD.mT @ grad_DD @ vector_DD) / (row * column * (row + column))
        return -(vector_DD @ inner_DD @ vector_DD.mT)


def whiten(z_SD: Tensor, whitening: Whitening, ridge: float) -> Tensor:
    """Rows (…, S, D) with mean 0 and, up to ``ridge``, the identity for their covariance."""
    centred_SD = z_SD - z_SD.mean(-2, keepdim=True)
    eye_DD = torch.eye(z_SD.shape[-1], dtype=z_SD.dtype, device=z_SD.device)
    s_DD = (1 - ridge) * (centred_SD.mT @ centred_SD) / (z_SD.shape[-2] - 1) + ridge * eye_DD
    if whitening == "zca":
        return centred_SD @ _InverseRoot.apply(s_DD)  # type: ignore[operator]
    factor_DD = torch.linalg.cholesky_ex(s_DD).L  # without the check that would wait for the device
    return torch.linalg.solve_triangular(factor_DD, centred_SD.mT, upper=False).mT


def w_mse(pairs: Pairs, *, whitening: Whitening = "cholesky", size: int | None = None, ridge: float = 1e-3) -> Loss:
    """The loss of this rank's rows, whitened among the rows of all ranks.

    Args:
        pairs: ``columns["z"]`` holds the head's rows of all views, (N, K, D); ``taps["z"]`` this rank's.
        whitening, size, ridge: see :class:`Options`.

    Returns:
        ``terms`` distance; ``report`` spread of the rows before they are whitened.

    Raises:
        UsageError: sub-batches do not divide the batch, or are too small to be whitened without a ridge.
    """
    z_KND = wide(pairs.columns["z"]).transpose(0, 1)
    views, rows, width = z_KND.shape
    size = rows if size is None else size
    if rows % size:
        raise UsageError(f"objective.options.size={size}", f"it does not divide a batch of {rows}", f"Choose a divisor of {rows}")
    if ridge == 0 and size <= width:
        raise UsageError(
            "objective.options.ridge=0", f"{size} rows have no full covariance of {width} coordinates", "Give a ridge or more rows"
        )
    white_KND = whiten(z_KND.reshape(views, rows // size, size, width), whitening, ridge).reshape(views, rows, width)
    unit_KBD = F.normalize(white_KND[:, pairs.offset : pairs.offset + len(pairs.taps["z"])], dim=2)
    cosines = [(unit_KBD[k] * unit_KBD[other]).sum(1).mean() for k, other in itertools.combinations(range(views), 2)]
    loss = 2 - 2 * torch.stack(cosines).mean()
    return Loss(loss, {"distance": loss}, {"spread": spread(z_KND[0])})


class Method(nn.Module):
    """W-MSE's head."""

    def __init__(self, model: DualEncoder, options: Options) -> None:
        super().__init__()
        self.positives, self.settings = options.positives, options.model_dump(include={"whitening", "size", "ridge"})
        if options.size is not None and options.size <= options.width:
            raise UsageError(
                f"objective.options.size={options.size}",
                f"so few rows have no full covariance of {options.width} coordinates",
                "Choose a larger size or a smaller width",
            )
        self.head = mlp([model.image.width, options.hidden, options.width], norm=options.norm)

    def rows(self, see: See) -> dict[str, Tensor]:
        """``z``, (B, K, D)."""
        return {"z": torch.stack([self.head(pooled_BW) for pooled_BW in pooled_views(see, self.positives)], dim=1)}

    def forward(self, pairs: Pairs) -> Loss:
        """See :func:`w_mse`."""
        return w_mse(pairs, **self.settings)
