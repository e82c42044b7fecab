"""Naive float64 twin of BYOL's loss: equation 2 of arXiv:2006.07733, as squared distances of unit rows, both ways."""

from __future__ import annotations

import math

import torch


def unit(row: list[float]) -> list[float]:
    length = math.sqrt(math.fsum(x * x for x in row))
    return [x / length for x in row]


def distance(a: list[float], b: list[float]) -> float:
    return math.fsum((x - y) ** 2 for x, y in zip(unit(a), unit(b), strict=True))


def reference(image, text, concept, scale, bias, *, taps) -> float:
    """Squared distance of each prediction from the other view's target, summed over both ways, mean over rows."""
    total = 0.0
    for i in range(len(taps["p.0"])):
        total += distance(taps["p.0"][i], taps["t.1"][i]) + distance(taps["p.1"][i], taps["t.0"][i])
    return total / len(taps["p.0"])


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Predictions and targets of two views; not normalised."""
    return {name: torch.randn(n, 4, generator=draw, dtype=torch.float64) for name in ("p.0", "p.1", "t.0", "t.1")}


def flat(n: int) -> float:
    """The loss of predictions at right angles to their targets."""
    prediction, target = [[1.0, 0.0]] * n, [[0.0, 1.0]] * n
    return reference(None, None, None, 1.0, 0.0, taps={"p.0": prediction, "p.1": prediction, "t.0": target, "t.1": target})


OPTIONS = [{}]
