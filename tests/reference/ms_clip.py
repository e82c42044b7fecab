"""Naive float64 twin of a pair of blocks that share weights (arXiv:2207.12661): one row, one number at a time.

``shared`` holds ``qkv`` and ``qkv_bias`` (3D × D, 3D), ``out``, ``out_bias``, ``up``, ``up_bias``, ``down``, ``down_bias``; ``norms`` the
side's own two pairs of gain and shift.
"""

from __future__ import annotations

import math


def _dot(left, right) -> float:
    return math.fsum(a * b for a, b in zip(left, right, strict=True))


def _linear(row, weight, bias) -> list[float]:
    return [_dot(row, line) + b for line, b in zip(weight, bias, strict=True)]


def _norm(row, gain, shift, eps=1e-5) -> list[float]:
    mean = math.fsum(row) / len(row)
    variance = math.fsum((value - mean) ** 2 for value in row) / len(row)
    return [(value - mean) / math.sqrt(variance + eps) * g + s for value, g, s in zip(row, gain, shift, strict=True)]


def _gelu(value: float) -> float:
    return value * 0.5 * (1.0 + math.erf(value / math.sqrt(2.0)))


def _attention(rows, shared, heads, causal) -> list[list[float]]:
    width = len(rows[0])
    size = width // heads
    made = [_linear(row, shared["qkv"], shared["qkv_bias"]) for row in rows]
    out = []
    for t in range(len(rows)):
        seen = range(t + 1) if causal else range(len(rows))
        mixed: list[float] = []
        for head in range(heads):
            q, k, v = (slice(part * width + head * size, part * width + (head + 1) * size) for part in range(3))
            raised = [math.exp(_dot(made[t][q], made[s][k]) / math.sqrt(size)) for s in seen]
            mixed += [math.fsum(r * made[s][v][j] for r, s in zip(raised, seen, strict=True)) / math.fsum(raised) for j in range(size)]
        out.append(_linear(mixed, shared["out"], shared["out_bias"]))
    return out


def reference(rows, shared, norms, heads, causal) -> list[list[float]]:
    """A block: texts are causal, pictures not; everything else differs in the norms alone."""
    added = _attention([_norm(row, *norms[0]) for row in rows], shared, heads, causal)
    rows = [[a + b for a, b in zip(row, more, strict=True)] for row, more in zip(rows, added, strict=True)]
    found = []
    for row in rows:
        middle = [_gelu(value) for value in _linear(_norm(row, *norms[1]), shared["up"], shared["up_bias"])]
        found.append([a + b for a, b in zip(row, _linear(middle, shared["down"], shared["down_bias"]), strict=True)])
    return found
