"""Effective robustness: accuracy under shift beyond what the accuracy without it foretells.

Source: Taori et al., Measuring Robustness to Natural Distribution Shifts in Image Classification (arXiv:2007.00644), section 2: models
trained the usual way lie near a line in logit space; a model is robust in effect by how far it lies above.

    fit  logit(shifted) = intercept + slope · logit(in distribution)   by least squares over the reference models
    effective robustness = shifted − sigmoid(intercept + slope · logit(in distribution))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from diptych.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Line:
    """A fitted line in logit space.

    Args:
        r2: share of the variance of logit(shifted) that it explains.
        low, high: accuracies in distribution of the weakest and the strongest model it rests on; beyond them it is a guess.
        n: how many models.
    """

    intercept: float
    slope: float
    r2: float
    low: float
    high: float
    n: int

    def expected(self, accuracy: float) -> float:
        """The shifted accuracy that ``accuracy`` in distribution, 0 < accuracy < 1, foretells."""
        return 1 / (1 + math.exp(-(self.intercept + self.slope * logit(accuracy))))


def logit(share: float) -> float:
    """log(p / (1 − p)) of 0 < p < 1."""
    return math.log(share / (1 - share))


def fit(points: Sequence[tuple[float, float]]) -> Line:
    """The line through ``(in distribution, shifted)`` accuracies; models at 0 or 1 have no logit and are left out.

    Raises:
        UsageError: fewer than three models are left, or all are equally good in distribution.
    """
    known = [(a, b) for a, b in points if 0 < a < 1 and 0 < b < 1]
    xs, ys = [logit(a) for a, _ in known], [logit(b) for _, b in known]
    if len(known) < 3 or max(xs) - min(xs) < 1e-9:
        why = f"{len(known)} reference models with accuracies between 0 and 1, of which no two may be equal"
        raise UsageError("line of reference models", why, "Give at least three that differ")
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    intercept = mean_y - slope * mean_x
    left = sum((y - intercept - slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
    total = sum((y - mean_y) ** 2 for y in ys)
    low, high = min(a for a, _ in known), max(a for a, _ in known)
    return Line(intercept, slope, 1 - left / total if total else 1.0, low, high, len(known))


def effective(line: Line, accuracy: float, shifted: float) -> float:
    """How far ``shifted`` lies above the line; NaN where ``accuracy`` is 0 or 1 and has no logit."""
    return shifted - line.expected(accuracy) if 0 < accuracy < 1 else math.nan
