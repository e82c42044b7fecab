"""Naive float64 twin of VI-SimSiam: the negative log-likelihood of targets under power spherical distributions, row by row.

The density's constant is not taken from a formula: it is one over the integral of ``(1 + cos) ** k`` over the sphere, which is the surface
of the sphere one dimension down times an integral over the angle (Simpson's rule).
"""

from __future__ import annotations

import math

import torch

STEPS = 4000


def unit(row: list[float]) -> list[float]:
    length = math.sqrt(math.fsum(x * x for x in row))
    return [x / length for x in row]


def log_density(target: list[float], mean: list[float], kappa: float) -> float:
    dim = len(target)
    cosine = math.fsum(a * b for a, b in zip(unit(target), unit(mean), strict=True))
    surface = 2 * math.pi ** ((dim - 1) / 2) / math.gamma((dim - 1) / 2)  # of the sphere in dim - 1 dimensions
    step = math.pi / STEPS
    heights = [(1 + math.cos(i * step)) ** kappa * math.sin(i * step) ** (dim - 2) for i in range(STEPS)] + [0.0]
    simpson = math.fsum((1 if i in (0, STEPS) else 4 if i % 2 else 2) * h for i, h in enumerate(heights)) * step / 3
    return kappa * math.log(1 + max(cosine, -1 + 1e-6)) - math.log(surface * simpson)


def reference(image, text, concept, scale, bias, *, taps) -> float:
    """Each view's prediction tells the other view's target; half of both ways, mean over rows."""
    total = 0.0
    for i in range(len(taps["t.0"])):
        total -= 0.5 * log_density(taps["t.1"][i], taps["m.0"][i], taps["k.0"][i])
        total -= 0.5 * log_density(taps["t.0"][i], taps["m.1"][i], taps["k.1"][i])
    return total / len(taps["t.0"])


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Mean directions and targets, not normalised, in five dimensions; concentrations between 1 and 21."""
    rows = {name: torch.randn(n, 5, generator=draw, dtype=torch.float64) for name in ("m.0", "m.1", "t.0", "t.1")}
    return rows | {name: 1 + 20 * torch.rand(n, generator=draw, dtype=torch.float64) for name in ("k.0", "k.1")}


OPTIONS = [{}]
