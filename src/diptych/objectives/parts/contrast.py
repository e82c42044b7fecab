"""Softmax contrast with several positives and softened negatives: what the objectives on pairs share.

Shapes: B rows of this rank, N columns, D embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def similarities(rows_BD: Tensor, cols_ND: Tensor) -> Tensor:
    """Dot products (B, N), in float32 or wider."""
    wide = torch.promote_types(rows_BD.dtype, torch.float32)
    return rows_BD.to(wide) @ cols_ND.to(wide).T


def equal(row_B: Tensor, column_N: Tensor) -> Tensor:
    """Whether row i and column j have one concept, (B, N)."""
    return row_B[:, None] == column_N[None, :]


def targets(like_BN: Tensor, same_BN: Tensor, soft: float | Tensor = 0.0, weight_BN: Tensor | None = None) -> Tensor:
    """Target distribution of each row: 1 − soft evenly over the positives, ``soft`` over the negatives; (B, N) in the kind of ``like_BN``.

    Args:
        same_BN: the positives; at least one a row.
        soft: share of the negatives, in [0, 1). A row without negatives gives everything to its positives.
        weight_BN: how the negatives divide their share (non-negative numbers); evenly by default.
    """
    weight_BN = torch.ones_like(like_BN) if weight_BN is None else weight_BN
    weight_BN = torch.where(same_BN, 0.0, weight_BN)
    sum_B1 = weight_BN.sum(1, keepdim=True)
    share_B1 = (sum_B1 > 0).to(like_BN.dtype) * soft
    negative_BN = share_B1 * weight_BN / sum_B1.clamp_min(torch.finfo(like_BN.dtype).tiny)
    return (1.0 - share_B1) * same_BN / same_BN.sum(1, keepdim=True) + negative_BN


def cross_entropy(logits_BN: Tensor, target_BN: Tensor) -> Tensor:
    """Mean over rows of the cross-entropy to ``target_BN``."""
    return -(target_BN * logits_BN.log_softmax(dim=1)).sum(1).mean()


def info_nce(rows_BD: Tensor, cols_ND: Tensor, same_BN: Tensor, scale: Tensor, soft: float | Tensor = 0.0) -> Tensor:
    """One direction of the contrast of rows with columns, the mean over rows, with softened negatives."""
    logits_BN = scale * similarities(rows_BD, cols_ND)
    return cross_entropy(logits_BN, targets(logits_BN, same_BN, soft))


def hits(logits_BN: Tensor, same_BN: Tensor) -> Tensor:
    """Share of rows whose best column is a positive, without gradient."""
    best_B1 = logits_BN.detach().argmax(1, keepdim=True)
    return same_BN.gather(1, best_B1).to(logits_BN.dtype).mean()
