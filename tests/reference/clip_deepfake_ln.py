"""Alignment, uniformity (arXiv:2005.10242, section 4) and spherical interpolation in float64, as loops."""

from __future__ import annotations

import math


def away(x, y):
    """Squared distance."""
    return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))


def alignment(rows, label):
    """Mean squared distance of the pairs of one class, 0 without any."""
    pairs = [away(rows[i], rows[j]) for i in range(len(rows)) for j in range(i + 1, len(rows)) if label[i] == label[j]]
    return sum(pairs) / len(pairs) if pairs else 0.0


def uniformity(rows):
    """Logarithm of the mean Gaussian potential of all pairs, with t = 2; 0 for one row."""
    pairs = [math.exp(-2 * away(rows[i], rows[j])) for i in range(len(rows)) for j in range(i + 1, len(rows))]
    return math.log(sum(pairs) / len(pairs)) if pairs else 0.0


def slerp(one, other, share):
    """The point ``share`` of the way along the great circle of two unit rows that are neither equal nor opposite."""
    angle = math.acos(sum(a * b for a, b in zip(one, other, strict=True)))
    first, second = math.sin((1 - share) * angle) / math.sin(angle), math.sin(share * angle) / math.sin(angle)
    return [first * a + second * b for a, b in zip(one, other, strict=True)]
