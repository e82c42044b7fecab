"""Naive float64 twin of W-MSE: section 3 of arXiv:2007.06346 with a Cholesky factor, or a Jacobi eigendecomposition, written out."""

from __future__ import annotations

import math

import torch


def dot(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def cholesky_inverse(s: list[list[float]]) -> list[list[float]]:
    """The inverse of the lower factor of ``s``."""
    n = len(s)
    low = [[0.0] * n for _ in range(n)]
    for i in range(n):
        for j in range(i + 1):
            rest = s[i][j] - math.fsum(low[i][k] * low[j][k] for k in range(j))
            low[i][j] = math.sqrt(rest) if i == j else rest / low[j][j]
    inverse = [[0.0] * n for _ in range(n)]
    for column in range(n):
        for i in range(n):
            rest = (1.0 if i == column else 0.0) - math.fsum(low[i][k] * inverse[k][column] for k in range(i))
            inverse[i][column] = rest / low[i][i]
    return inverse


def inverse_root(s: list[list[float]]) -> list[list[float]]:
    """``s ** -0.5`` by turning ``s`` in one plane after the other until it is diagonal."""
    n = len(s)
    a = [list(row) for row in s]
    v = [[1.0 if i == j else 0.0 for j in range(n)] for i in range(n)]
    for _ in range(60):
        for p in range(n):
            for q in range(p + 1, n):
                angle = 0.5 * math.atan2(2 * a[p][q], a[q][q] - a[p][p])
                c, sn = math.cos(angle), math.sin(angle)
                for k in range(n):
                    a[k][p], a[k][q] = c * a[k][p] - sn * a[k][q], sn * a[k][p] + c * a[k][q]
                for k in range(n):
                    a[p][k], a[q][k] = c * a[p][k] - sn * a[q][k], sn * a[p][k] + c * a[q][k]
                for k in range(n):
                    v[k][p], v[k][q] = c * v[k][p] - sn * v[k][q], sn * v[k][p] + c * v[k][q]
    return [[math.fsum(v[i][k] * v[j][k] / math.sqrt(a[k][k]) for k in range(n)) for j in range(n)] for i in range(n)]


def whitened(rows: list[list[float]], whitening: str, ridge: float) -> list[list[float]]:
    n, width = len(rows), len(rows[0])
    mean = [math.fsum(column) / n for column in zip(*rows, strict=True)]
    centred = [[x - m for x, m in zip(row, mean, strict=True)] for row in rows]
    s = [
        [(1 - ridge) * math.fsum(r[d] * r[e] for r in centred) / (n - 1) + (ridge if d == e else 0.0) for e in range(width)]
        for d in range(width)
    ]
    matrix = cholesky_inverse(s) if whitening == "cholesky" else inverse_root(s)
    return [[dot(line, row) for line in matrix] for row in centred]


def reference(image, text, concept, scale, bias, *, taps, whitening="cholesky", size=None, ridge=1e-3) -> float:
    """All rows of all ranks, (N, K, D) as lists; sub-batches are runs of ``size`` rows."""
    n, views = len(taps["z"]), len(taps["z"][0])
    size = size or n
    white = []
    for k in range(views):
        rows = [taps["z"][i][k] for i in range(n)]
        white.append([row for start in range(0, n, size) for row in whitened(rows[start : start + size], whitening, ridge)])
    distances = []
    for k in range(views):
        for other in range(k + 1, views):
            for a, b in zip(white[k], white[other], strict=True):
                cosine = dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))
                distances.append(2 - 2 * cosine)
    return math.fsum(distances) / len(distances)


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Rows of a head for four views of three coordinates."""
    return {"z": torch.randn(n, 4, 3, generator=draw, dtype=torch.float64)}


def flat(n: int) -> float:
    """The loss of two views that live in different coordinates, so that their whitened rows are at right angles."""
    angles = [2 * math.pi * i / n for i in range(n)]
    rows = [[[math.cos(a), math.sin(a), 0.0, 0.0], [0.0, 0.0, math.cos(a), math.sin(a)]] for a in angles]
    return reference(None, None, None, 1.0, 0.0, taps={"z": rows})


OPTIONS = [{}, {"whitening": "zca"}, {"ridge": 0.3}]
