"""bob-backbones, in float64 and plainly: ranks of several models, and intervals of differences that hold all at once."""

from __future__ import annotations

import math


def ranks(score_SM: list[list[float]]) -> list[list[float]]:
    """Rank 1 for the highest of a row; equal scores share the mean of the ranks that they take up."""
    found = []
    for row in score_SM:
        order = sorted(row, reverse=True)
        found.append([sum(place + 1 for place, other in enumerate(order) if other == score) / row.count(score) for score in row])
    return found


def together(
    value_J: list[float], draw_SJ: list[list[float]], floor_J: list[float], level: float = 0.95
) -> tuple[list[float], list[float], float]:
    """Lower and upper ends, and the reach in deviations."""
    deviation_J = []
    for j, value in enumerate(value_J):
        squares = [(row[j] - value) ** 2 for row in draw_SJ if math.isfinite(row[j])]
        deviation_J.append(max(math.sqrt(math.fsum(squares) / max(len(squares), 1)), floor_J[j]))
    largest = sorted(
        max((abs(x - v) / d if math.isfinite(x) else 0.0) for x, v, d in zip(row, value_J, deviation_J, strict=True)) for row in draw_SJ
    )
    at = level * (len(largest) - 1)  # linear between the two nearest
    below = math.floor(at)
    reach = largest[below] + (at - below) * (largest[min(below + 1, len(largest) - 1)] - largest[below])
    low = [v - reach * d for v, d in zip(value_J, deviation_J, strict=True)]
    return low, [v + reach * d for v, d in zip(value_J, deviation_J, strict=True)], reach
