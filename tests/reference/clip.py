"""Naive float64 twin of the CLIP loss: plain loops over plain lists, from arXiv:2103.00020 figure 3."""

from __future__ import annotations

import math


def dot(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def one_direction(rows, cols, row_concepts, col_concepts, scale, smooth) -> float:
    losses = []
    for u, c in zip(rows, row_concepts, strict=True):
        logits = [scale * dot(u, v) for v in cols]
        top = max(logits)
        log_sum = top + math.log(math.fsum(math.exp(z - top) for z in logits))
        positives = [j for j, other in enumerate(col_concepts) if other == c]
        loss = 0.0
        for j, z in enumerate(logits):
            target = smooth / len(cols) + ((1.0 - smooth) / len(positives) if j in positives else 0.0)
            loss -= target * (z - log_sum)
        losses.append(loss)
    return math.fsum(losses) / len(losses)


def reference(image, text, concept, scale, bias, *, label_smoothing=0.0, image_weight=0.5) -> float:
    """All rows of all ranks as lists; returns the scalar loss. A common bias cancels in the softmax."""
    forth = one_direction(image, text, concept, concept, scale, label_smoothing)
    back = one_direction(text, image, concept, concept, scale, label_smoothing)
    return image_weight * forth + (1.0 - image_weight) * back


OPTIONS = [{}, {"label_smoothing": 0.1}, {"image_weight": 0.75}]
