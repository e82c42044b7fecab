"""Naive float64 twin of SLIP: CLIP's contrast of the pairs and SimCLR's of the views, each as loops (arXiv:2112.12750, algorithm 1)."""

from __future__ import annotations

import math

import torch


def dot(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def log_softmax(logits: list[float]) -> list[float]:
    top = max(logits)
    log_sum = top + math.log(math.fsum(math.exp(z - top) for z in logits))
    return [z - log_sum for z in logits]


def clip_way(rows, cols, concept, scale, smooth) -> float:
    total = 0.0
    for i, row in enumerate(rows):
        logp = log_softmax([scale * dot(row, col) for col in cols])
        same = [j for j, c in enumerate(concept) if c == concept[i]]
        total -= (1 - smooth) * math.fsum(logp[j] for j in same) / len(same) + smooth * math.fsum(logp) / len(cols)
    return total / len(rows)


def simclr(first, second, temperature) -> float:
    rows = [[x / math.sqrt(dot(row, row)) for x in row] for row in [*first, *second]]
    n, total = len(first), 0.0
    for i, row in enumerate(rows):
        names = [j for j in range(2 * n) if j != i]
        logp = log_softmax([dot(row, rows[j]) / temperature for j in names])
        total -= logp[names.index((i + n) % (2 * n))]
    return total / (2 * n)


def reference(image, text, concept, scale, bias, *, taps, weight=1.0, view_options=None, label_smoothing=0.0) -> float:
    """All rows of all ranks; the views' loss is SimCLR's."""
    forth = clip_way(image, text, concept, scale, label_smoothing)
    back = clip_way(text, image, concept, scale, label_smoothing)
    temperature = (view_options or {}).get("temperature", 0.1)
    return (forth + back) / 2 + weight * simclr(taps["z.0"], taps["z.1"], temperature)


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Rows of a head for two further views; not normalised."""
    return {name: torch.randn(n, 4, generator=draw, dtype=torch.float64) for name in ("z.0", "z.1")}


def flat(n: int) -> float:
    """The loss of rows that are all one point, every concept different."""
    rows = [[1.0, 0.0]] * n
    return reference(rows, rows, list(range(n)), 0.0, 0.0, taps={"z.0": rows, "z.1": rows})


OPTIONS = [{}, {"weight": 0.3, "label_smoothing": 0.1, "view_options": {"temperature": 0.5}}]
