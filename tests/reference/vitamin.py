"""Naive float64 twins of ViTamin's two blocks (arXiv:2404.02132, section 4.1): inverted residual with channel norm, and gated MLP."""

from __future__ import annotations

import math


def _dot(left, right) -> float:
    return math.fsum(a * b for a, b in zip(left, right, strict=True))


def _gelu(value: float) -> float:
    return value * 0.5 * (1.0 + math.erf(value / math.sqrt(2.0)))


def _norm(row, gain, shift, eps) -> list[float]:
    mean = math.fsum(row) / len(row)
    variance = math.fsum((value - mean) ** 2 for value in row) / len(row)
    return [(value - mean) / math.sqrt(variance + eps) * g + s for value, g, s in zip(row, gain, shift, strict=True)]


def inverted_residual(x, w, stride, eps) -> list[list[list[float]]]:
    """``x`` is height × width × channels; ``w`` holds ``gain``, ``shift``, ``expand`` (inside × in), ``depthwise`` (inside × 3 × 3),
    ``project`` (out × inside), ``shortcut`` (out × in, or None) and their biases ``…_bias``."""
    height, width = len(x), len(x[0])
    inside = [
        [[_gelu(_dot(_norm(place, w["gain"], w["shift"], eps), line) + b) for line, b in zip(w["expand"], w["expand_bias"], strict=True)]
         for place in row]
        for row in x
    ]  # fmt: skip
    out = []
    for top in range(0, height, stride):
        out.append([])
        for left in range(0, width, stride):
            near = [(i, j) for i in range(-1, 2) for j in range(-1, 2) if 0 <= top + i < height and 0 <= left + j < width]
            middle = [
                _gelu(math.fsum(inside[top + i][left + j][c] * kernel[i + 1][j + 1] for i, j in near) + bias)
                for c, (kernel, bias) in enumerate(zip(w["depthwise"], w["depthwise_bias"], strict=True))
            ]
            branch = [_dot(middle, line) + b for line, b in zip(w["project"], w["project_bias"], strict=True)]
            places = near if stride > 1 else [(0, 0)]
            kept = [math.fsum(x[top + i][left + j][c] for i, j in places) / len(places) for c in range(len(x[0][0]))]
            if w["shortcut"] is not None:
                kept = [_dot(kept, line) + b for line, b in zip(w["shortcut"], w["shortcut_bias"], strict=True)]
            out[-1].append([a + b for a, b in zip(branch, kept, strict=True)])
    return out


def gated_mlp(row, gate, value, down, down_bias) -> list[float]:
    """GeGLU: ``gate`` and ``value`` are pairs of a matrix and a bias."""
    opened = [_gelu(_dot(row, line) + b) for line, b in zip(*gate, strict=True)]
    carried = [_dot(row, line) + b for line, b in zip(*value, strict=True)]
    middle = [a * b for a, b in zip(opened, carried, strict=True)]
    return [_dot(middle, line) + b for line, b in zip(down, down_bias, strict=True)]
