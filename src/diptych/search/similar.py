"""Pictures that are alike: near-duplicates behind one another, and answers that differ from one another.

Shapes: N pictures, D width; rows are unit vectors, best first.
"""

from __future__ import annotations

import numpy as np

DUPLICATE = 0.97


def grouped(rows_ND: np.ndarray, threshold: float = DUPLICATE) -> list[list[int]]:
    """Groups of positions: each row joins the first group whose first row has at least ``threshold`` cosine with it, else opens one."""
    groups: list[list[int]] = []
    for at, row_D in enumerate(rows_ND):
        heads = [group[0] for group in groups]
        close = np.flatnonzero(rows_ND[heads] @ row_D >= threshold) if heads else []
        if len(close):
            groups[int(close[0])].append(at)
        else:
            groups.append([at])
    return groups


def diversified(similarity_N: np.ndarray, rows_ND: np.ndarray, k: int, diverse: float) -> list[int]:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998, formula 1): positions of ``k`` rows in the order chosen.

        while fewer than k are chosen:
            choose argmax over the others of (1 − diverse) · relevance − diverse · max(likeness to a chosen one)

    Both are brought to 0…1 over the N rows first (a picture is nearer to another picture than to any words): relevance from its lowest to
    its highest value, likeness from the mean cosine of two rows to 1. ``diverse`` 0 keeps the order.
    """
    low, high = float(similarity_N.min(initial=1.0)), float(similarity_N.max(initial=-1.0))
    relevance_N = (similarity_N - low) / max(high - low, 1e-12)
    likeness_NN = rows_ND @ rows_ND.T
    mean = float(likeness_NN.mean()) if len(rows_ND) else 0.0
    likeness_NN = np.clip((likeness_NN - mean) / max(1.0 - mean, 1e-12), 0.0, 1.0)
    chosen: list[int] = []
    nearest_N = np.zeros(len(rows_ND))
    value_N = relevance_N.astype(np.float64)
    while len(chosen) < min(k, len(rows_ND)):
        value_N = (1.0 - diverse) * relevance_N - diverse * nearest_N
        value_N[chosen] = -np.inf
        chosen.append(int(value_N.argmax()))
        nearest_N = np.maximum(nearest_N, likeness_NN[chosen[-1]])
    return chosen
