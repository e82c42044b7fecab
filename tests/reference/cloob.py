"""Naive float64 twin of CLOOB: retrieval and InfoLOOB of arXiv:2110.11316, section 3, pair by pair."""

from __future__ import annotations

import math


def dot(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def retrieve(state: list[float], stored: list[list[float]], beta: float) -> list[float]:
    scores = [beta * dot(state, pattern) for pattern in stored]
    top = max(scores)
    weights = [math.exp(score - top) for score in scores]
    mixed = [math.fsum(w * pattern[d] for w, pattern in zip(weights, stored, strict=True)) for d in range(len(state))]
    length = math.sqrt(dot(mixed, mixed))
    return [value / length for value in mixed]


def info_loob(anchors, others, concept, tau) -> float:
    losses = []
    for i, anchor in enumerate(anchors):
        similar = [dot(anchor, other) / tau for other in others]
        positive = [s for s, c in zip(similar, concept, strict=True) if c == concept[i]]
        negative = [s for s, c in zip(similar, concept, strict=True) if c != concept[i]]
        if not negative:
            losses.append(0.0)
            continue
        top = max(negative)
        log_sum = top + math.log(math.fsum(math.exp(s - top) for s in negative))
        losses.append(tau * (log_sum - math.fsum(positive) / len(positive)))
    return math.fsum(losses) / len(losses)


def reference(image, text, concept, scale, bias, *, beta=14.3, inverse_temperature=30.0) -> float:
    """All rows of all ranks as lists; returns the scalar loss. Scale and bias take no part."""
    ux, uy = ([retrieve(row, image, beta) for row in rows] for rows in (image, text))
    vx, vy = ([retrieve(row, text, beta) for row in rows] for rows in (image, text))
    tau = 1.0 / inverse_temperature
    return info_loob(ux, uy, concept, tau) + info_loob(vy, vx, concept, tau)


OPTIONS = [{}, {"beta": 2.0, "inverse_temperature": 10.0}, {"beta": 60.0}]
