"""Centred kernel alignment: are two representations of the same examples alike, whatever their axes and scale?

Papers: Kornblith et al., Similarity of Neural Network Representations Revisited (arXiv:1905.00414), section 3 (linear CKA); Song et al.,
Feature Selection via Dependence Maximization (JMLR 13, 2012), the unbiased HSIC; Nguyen et al., Do Wide and Deep Networks
Learn the Same Things? (arXiv:2010.15327), equations 2 and 3 (CKA with it).

    K, L = x xᵀ, y yᵀ                                            # linear kernels, (N, N)
    plain:     HSIC = tr(K H L H)                                # H centres; the factor 1/(N − 1)² cancels
    debiased:  K, L with zero diagonals
               HSIC = (tr(K L) + 1ᵀK1 · 1ᵀL1 / ((N−1)(N−2)) − 2/(N−2) · 1ᵀK L 1) / (N (N−3))
    CKA = HSIC(K, L) / √(HSIC(K, K) · HSIC(L, L))

Plain CKA of N rows in wide spaces is near 1 for unrelated rows; the debiased one is 0 on average there (and can be slightly negative).
Both are unchanged by rotations and by scaling either side. Shapes: N examples, D and E widths, A and B representations.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diptych.core.errors import UsageError

LEAST = 4


def gram(x_ND: Tensor) -> Tensor:
    """Linear kernel of the centred rows, float64 ``N,N``. Centring changes neither CKA, and keeps digits."""
    x_ND = x_ND.double()
    x_ND = x_ND - x_ND.mean(0)
    return x_ND @ x_ND.T


def _centred(gram_NN: Tensor) -> Tensor:
    """What makes plain HSIC an inner product: the doubly centred kernel, flat."""
    row_N1 = gram_NN.mean(1, keepdim=True)
    return (gram_NN - row_N1 - row_N1.T + gram_NN.mean()).flatten()


def _u_centred(gram_NN: Tensor) -> Tensor:
    """What makes unbiased HSIC an inner product: U-centring (Székely and Rizzo, Annals of Statistics 42, 2014), flat."""
    count = len(gram_NN)
    zeroed_NN = gram_NN - gram_NN.diag().diag()
    row_N1 = zeroed_NN.sum(1, keepdim=True) / (count - 2)
    made_NN = zeroed_NN - row_N1 - row_N1.T + zeroed_NN.sum() / ((count - 1) * (count - 2))
    return (made_NN - made_NN.diag().diag()).flatten()


def cka(x_ND: Tensor, y_NE: Tensor, *, debiased: bool = True) -> float:
    """CKA of two representations of the same N examples.

    Returns:
        Plain: in [0, 1]. Debiased: at most 1, about 0 for unrelated rows. NaN where one side is constant.

    Raises:
        UsageError: fewer than 4 examples, or not the same number on both sides.
    """
    return float(matrix([x_ND], [y_NE], debiased=debiased)[0, 0])


def matrix(left: Sequence[Tensor], right: Sequence[Tensor] | None = None, *, debiased: bool = True) -> Tensor:
    """CKA of every representation of ``left`` with every one of ``right`` (float64 ``A,B``); of ``left`` with itself without ``right``.

    Args:
        left, right: ``N,D`` each, D as it likes; all of the same examples in the same order.

    Raises:
        UsageError: as :func:`cka`.
    """
    return of_grams([gram(x) for x in left], None if right is None else [gram(y) for y in right], debiased=debiased)


def of_grams(left: Sequence[Tensor], right: Sequence[Tensor] | None = None, *, debiased: bool = True) -> Tensor:
    """:func:`matrix` of linear kernels ``N,N``; a submatrix of a kernel is the kernel of those examples."""
    counts = {len(each) for each in (*left, *(right or ()))}
    if len(counts) != 1 or min(counts) < LEAST:
        raise UsageError("CKA", f"representations of {sorted(counts)} examples", f"Give the same examples to all, at least {LEAST}")
    flat = _u_centred if debiased else _centred
    left_AP = torch.stack([flat(each) for each in left])
    right_BP = left_AP if right is None else torch.stack([flat(each) for each in right])
    norm_A, norm_B = (_positive(rows.square().sum(1)).sqrt() for rows in (left_AP, right_BP))
    return (left_AP @ right_BP.T) / (norm_A[:, None] * norm_B[None])


def _positive(value: Tensor) -> Tensor:
    """NaN in place of what rounding left of a constant representation."""
    return torch.where(value > 1e-24, value, torch.nan)
