"""Naive float64 twin of NT-Xent: equation 1 of arXiv:2002.05709 as loops over views and pictures."""

from __future__ import annotations

import math

import torch


def unit(row: list[float]) -> list[float]:
    length = math.sqrt(math.fsum(x * x for x in row))
    return [x / length for x in row]


def cosine(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(unit(a), unit(b), strict=True))


def reference(image, text, concept, scale, bias, *, taps, temperature=0.1) -> float:
    """All rows of all ranks; the other drawings of a batch are negatives, whatever they show."""
    views = [taps["z.0"], taps["z.1"]]
    n, losses = len(views[0]), []
    for v in (0, 1):
        for i in range(n):
            others = [(w, j) for w in (0, 1) for j in range(n) if (w, j) != (v, i)]
            logits = [cosine(views[v][i], views[w][j]) / temperature for w, j in others]
            top = max(logits)
            log_sum = top + math.log(math.fsum(math.exp(z - top) for z in logits))
            losses.append(log_sum - cosine(views[v][i], views[1 - v][i]) / temperature)
    return math.fsum(losses) / len(losses)


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Rows of a head for two views; not normalised."""
    return {name: torch.randn(n, 4, generator=draw, dtype=torch.float64) for name in ("z.0", "z.1")}


def flat(n: int) -> float:
    """The loss of rows that are all one point."""
    rows = [[1.0, 0.0]] * n
    return reference(None, None, None, 1.0, 0.0, taps={"z.0": rows, "z.1": rows})


OPTIONS = [{}, {"temperature": 0.5}]
