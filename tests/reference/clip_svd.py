"""Singular values by one-sided Jacobi rotations (Hestenes, 1958), and a matrix with others in their place, in float64 as loops."""

from __future__ import annotations

import math


def svd(matrix, sweeps=60):
    """``(left, values, right)`` with ``matrix = Σ values[r] * left[r] ⊗ right[r]``, the largest first; at least as many rows as columns."""
    columns = [list(column) for column in zip(*matrix, strict=True)]
    turns = [[float(i == j) for j in range(len(columns))] for i in range(len(columns))]
    for _ in range(sweeps):
        for i in range(len(columns)):
            for j in range(i + 1, len(columns)):
                a, b = columns[i], columns[j]
                aa, bb, ab = (sum(x * y for x, y in zip(*pair, strict=True)) for pair in ((a, a), (b, b), (a, b)))
                if abs(ab) < 1e-15 * math.sqrt(aa * bb):
                    continue
                zeta = (bb - aa) / (2 * ab)
                t = math.copysign(1, zeta) / (abs(zeta) + math.sqrt(1 + zeta * zeta))
                c = 1 / math.sqrt(1 + t * t)
                for rows in (columns, turns):
                    first, second = rows[i], rows[j]
                    rows[i] = [c * x - c * t * y for x, y in zip(first, second, strict=True)]
                    rows[j] = [c * t * x + c * y for x, y in zip(first, second, strict=True)]
    values = [math.sqrt(sum(x * x for x in column)) for column in columns]
    order = sorted(range(len(values)), key=lambda r: -values[r])
    return [[x / values[r] for x in columns[r]] for r in order], [values[r] for r in order], [turns[r] for r in order]


def matrix(weight, change):
    """``weight`` with ``change[r]`` added to its r-th largest singular value."""
    left, values, right = svd(weight)
    return [
        [sum((values[r] + change[r]) * left[r][o] * right[r][i] for r in range(len(values))) for i in range(len(weight[0]))]
        for o in range(len(weight))
    ]
