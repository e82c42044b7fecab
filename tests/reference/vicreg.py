"""Naive float64 twin of VICReg: algorithm 1 of arXiv:2105.04906 as loops over rows and pairs of coordinates."""

from __future__ import annotations

import math

import torch

EPS = 1e-4


def covariance(a: list[float], b: list[float]) -> float:
    mean_a, mean_b = math.fsum(a) / len(a), math.fsum(b) / len(b)
    return math.fsum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True)) / (len(a) - 1)


def reference(
    image, text, concept, scale, bias, *, taps, invariance_weight=25.0, variance_weight=25.0, covariance_weight=1.0, target=1.0
) -> float:
    """All rows of all ranks."""
    n, width = len(taps["z.0"]), len(taps["z.0"][0])
    differences = [(a - b) ** 2 for x, y in zip(taps["z.0"], taps["z.1"], strict=True) for a, b in zip(x, y, strict=True)]
    invariance = math.fsum(differences) / (n * width)
    dead = shared = 0.0
    for name in ("z.0", "z.1"):
        columns = [list(column) for column in zip(*taps[name], strict=True)]
        for d, a in enumerate(columns):
            dead += max(0.0, target - math.sqrt(covariance(a, a) + EPS)) / width
            for e, b in enumerate(columns):
                if d != e:
                    shared += covariance(a, b) ** 2 / width
    return invariance_weight * invariance + variance_weight * dead + covariance_weight * shared


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Rows of a head for two views; not normalised, some coordinates above the target deviation and some below."""
    size = torch.tensor([0.3, 0.6, 1.5, 2.0], dtype=torch.float64)
    return {name: size * torch.randn(n, 4, generator=draw, dtype=torch.float64) for name in ("z.0", "z.1")}


OPTIONS = [{}, {"invariance_weight": 1.0, "variance_weight": 0.5, "covariance_weight": 2.0, "target": 0.8}]
