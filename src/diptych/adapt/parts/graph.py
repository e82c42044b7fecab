"""Nearest rows, and what is spread along them.

Shapes: Q query rows, N rows, M neighbours, D width, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 2048


def nearest(query_QD: Tensor, row_ND: Tensor, count: int, *, own: bool = True) -> tuple[Tensor, Tensor]:
    """Similarities and indices (Q, M) of the rows with the highest inner products, M = ``count`` or all that there are.

    Args:
        own: whether a row may be its own neighbour; off, ``query_QD`` has to be ``row_ND``.
    """
    taken = min(count, len(row_ND) - (0 if own else 1))
    values, indices = [], []
    for start in range(0, len(query_QD), BLOCK):
        alike_BN = query_QD[start : start + BLOCK] @ row_ND.T
        if not own:
            alike_BN.diagonal(start).fill_(-torch.inf)
        best = alike_BN.topk(taken, dim=1)
        values.append(best.values)
        indices.append(best.indices)
    return torch.cat(values), torch.cat(indices)


def links(index_QM: Tensor, value_QM: Tensor, count: int) -> Tensor:
    """A sparse (N, Q) matrix with ``value_QM[q, m]`` at row ``index_QM[q, m]`` and column q; N = ``count``."""
    column_QM = torch.arange(len(index_QM), device=index_QM.device)[:, None].expand_as(index_QM)
    where = torch.stack([index_QM.flatten(), column_QM.flatten()])
    return torch.sparse_coo_tensor(where, value_QM.flatten(), (count, len(index_QM)), check_invariants=False).coalesce()


def assigned_means(row_ND: Tensor, label_N: Tensor, otherwise_KD: Tensor) -> Tensor:
    """Unit mean row (K, D) of the rows of each label; the unit row of ``otherwise_KD`` for a label that none has."""
    sum_KD = torch.zeros_like(otherwise_KD).index_add_(0, label_N, row_ND)
    held_K = torch.bincount(label_N, minlength=len(otherwise_KD)) > 0
    return torch.nn.functional.normalize(torch.where(held_K[:, None], sum_KD, otherwise_KD), dim=1)
