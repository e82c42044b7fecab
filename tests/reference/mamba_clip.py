"""Naive float64 twin of a selective-scan block: Mamba (arXiv:2312.00752), algorithm 2 and section 3.4, one row, one number at a time.

``weights`` are nested lists named as the block's parameters: ``enter`` (2E × D), ``leave`` (D × E), ``conv`` (K × taps × E),
``conv_bias`` (K × E), ``select`` (K × E × (R + 2N)), ``step`` (K × R × E), ``step_bias`` (K × E), ``log_a`` (K × N × E), ``skip`` (K × E).
"""

from __future__ import annotations

import math


def _dot(left, right) -> float:
    return math.fsum(a * b for a, b in zip(left, right, strict=True))


def _column(matrix, j) -> list[float]:
    return [row[j] for row in matrix]


def _silu(v: float) -> float:
    return v / (1.0 + math.exp(-v))


def scan(x, dt, a, b, c) -> list[list[float]]:
    """``x``, ``dt`` T × E, ``a`` N × E, ``b``, ``c`` T × N; the states start at zero."""
    states = [[0.0] * len(x[0]) for _ in a]
    out = []
    for t in range(len(x)):
        out.append([0.0] * len(x[0]))
        for e in range(len(x[0])):
            for n in range(len(a)):
                states[n][e] = math.exp(dt[t][e] * a[n][e]) * states[n][e] + dt[t][e] * b[t][n] * x[t][e]
                out[t][e] += c[t][n] * states[n][e]
    return out


def paths(rows: int, columns: int, kind: str) -> list[list[int]]:
    """The orders in which a grid of tokens is read: along rows, and backwards; with ``cross`` also down columns, and backwards."""
    along = [r * columns + k for r in range(rows) for k in range(columns)]
    down = [r * columns + k for k in range(columns) for r in range(rows)]
    found = [along, along[::-1]]
    return found if kind == "bidirectional" else [*found, down, down[::-1]]


def reference(tokens, weights, grid, kind) -> list[list[float]]:
    """What the mixer of one block adds to one row's normed ``tokens`` (T × D)."""
    inner = len(weights["skip"][0])
    both = [[_dot(token, row) for row in weights["enter"]] for token in tokens]
    total = [[0.0] * inner for _ in tokens]
    for k, path in enumerate(paths(*grid, kind)):
        taps, states = weights["conv"][k], weights["log_a"][k]
        x = []
        for t in range(len(path)):
            row = list(weights["conv_bias"][k])
            for j in range(len(taps)):
                if (at := t - (len(taps) - 1) + j) >= 0:
                    row = [value + taps[j][e] * both[path[at]][e] for e, value in enumerate(row)]
            x.append([_silu(value) for value in row])
        rank = len(weights["step"][k])
        chosen = [[_dot(row, _column(weights["select"][k], j)) for j in range(rank + 2 * len(states))] for row in x]
        raw = [[_dot(row[:rank], _column(weights["step"][k], e)) + weights["step_bias"][k][e] for e in range(inner)] for row in chosen]
        dt = [[math.log1p(math.exp(value)) for value in row] for row in raw]
        a = [[-math.exp(value) for value in row] for row in states]
        b = [row[rank : rank + len(states)] for row in chosen]
        c = [row[rank + len(states) :] for row in chosen]
        for t, row in enumerate(scan(x, dt, a, b, c)):
            for e in range(inner):
                total[path[t]][e] += row[e] + weights["skip"][k][e] * x[t][e]
    gated = [[total[t][e] * _silu(both[t][inner + e]) for e in range(inner)] for t in range(len(tokens))]
    return [[_dot(row, out) for out in weights["leave"]] for row in gated]
