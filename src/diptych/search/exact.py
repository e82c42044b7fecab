"""Exact search: blocked float32 products over vectors that are mapped into memory, the same as sorting all similarities.

Shapes: N vectors, D width, M chosen rows.
"""

from __future__ import annotations

import numpy as np

BLOCK_BYTES = 32 << 20


def similarities(vectors_ND: np.ndarray, query_D: np.ndarray, rows_M: np.ndarray | None = None) -> np.ndarray:
    """Dot products (N,), or (M,) of the chosen rows, float32; about 32 MiB of vectors are in hand at a time."""
    query_D = np.ascontiguousarray(query_D, dtype=np.float32)
    count = len(vectors_ND) if rows_M is None else len(rows_M)
    step = max(BLOCK_BYTES // (4 * max(len(query_D), 1)), 1)
    found = np.empty(count, dtype=np.float32)
    for start in range(0, count, step):
        part = slice(start, min(start + step, count))
        found[part] = (vectors_ND[part] if rows_M is None else vectors_ND[rows_M[part]]) @ query_D
    return found


def best(values_N: np.ndarray, k: int) -> np.ndarray:
    """Positions of the ``k`` highest values, highest first, of equal ones the first: as ``argsort(-values, stable)[:k]``."""
    k = min(k, len(values_N))
    if k <= 0:
        return np.empty(0, dtype=np.int64)
    edge = values_N[np.argpartition(-values_N, k - 1)[k - 1]]
    at = np.flatnonzero(values_N >= edge)
    return at[np.argsort(-values_N[at], kind="stable")][:k]
