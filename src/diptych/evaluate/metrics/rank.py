"""Effective rank: how many directions a set of rows really uses.

Papers: Roy and Vetterli, The effective rank: a measure of effective dimensionality (EUSIPCO 2007), definition 1; Garrido et al.,
RankMe: Assessing the downstream performance of pretrained self-supervised representations by their rank (arXiv:2210.02885), equation 1,
which adds ε to each share.

    p[k] = σ[k] / Σ σ + ε                                      # σ: singular values of the rows
    rank = exp(−Σ p[k] · log p[k])

Between 1 (all rows are multiples of one) and min(N, D) (all singular values equal). Shapes: N rows, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.core.errors import UsageError

EPSILON = 1e-7


def singular_values(rows_ND: Tensor, *, centred: bool = False) -> Tensor:
    """Singular values (float64, largest first, min(N, D) of them), by the eigenvalues of the smaller of the two Gram matrices.

    Values below about 1e-8 of the largest are lost in rounding, which no entropy notices.

    Args:
        centred: take the mean row away first.

    Raises:
        UsageError: there are no rows, or one is not finite.
    """
    if not len(rows_ND) or not bool(rows_ND.isfinite().all()):
        raise UsageError(
            "effective rank", "there are no rows, or some are not finite", "Check the model's weights; training may have diverged"
        )
    rows_ND = rows_ND.double()
    if centred:
        rows_ND = rows_ND - rows_ND.mean(0)
    gram = rows_ND.T @ rows_ND if rows_ND.shape[1] <= rows_ND.shape[0] else rows_ND @ rows_ND.T
    return torch.linalg.eigvalsh(gram).flip(0).clamp(min=0).sqrt()


def effective_rank(rows_ND: Tensor, *, epsilon: float = EPSILON, centred: bool = False) -> float:
    """Effective rank of rows; ``epsilon=0`` is Roy and Vetterli's, the default RankMe's.

    Returns:
        In [1, min(N, D)] but for ε; NaN where every singular value is 0.
    """
    return of_spectrum(singular_values(rows_ND, centred=centred), epsilon=epsilon)


def of_spectrum(sigma_K: Tensor, *, epsilon: float = EPSILON) -> float:
    """Effective rank of known singular values."""
    total = float(sigma_K.double().sum())
    if total <= 0:
        return float("nan")
    p_K = sigma_K.double() / total + epsilon
    return float(torch.exp(torch.special.entr(p_K).sum()))
