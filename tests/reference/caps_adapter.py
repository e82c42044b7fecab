"""CapS-Adapter in float64: the affinity to each cached picture and its captions, added up class by class."""

from __future__ import annotations

import math


def unit(x):
    """At length 1."""
    length = math.sqrt(sum(a * a for a in x))
    return [a / length for a in x]


def dot(a, b):
    """Inner product."""
    return sum(x * y for x, y in zip(a, b, strict=True))


def logits(image, label, text, scale, rows, *, captions, alpha, beta, share, centre=False):
    """``logits[n][k]`` of ``rows``; ``captions[s]`` is a list of rows, perhaps none."""
    width, count = len(text[0]), len(image)
    said = []
    for s in range(count):
        own = captions[s] or [text[label[s]]]
        said.append(unit([sum(row[d] for row in own) / len(own) for d in range(width)]))
    if centre:
        away = [sum(image[s][d] - said[s][d] for s in range(count)) / count for d in range(width)]
        said = [unit([a + b for a, b in zip(row, away, strict=True)]) for row in said]
    found = []
    for x in rows:
        answer = [scale * dot(x, t) for t in text]
        for s in range(count):
            affinity = (1 - share) * dot(x, image[s]) + share * dot(x, said[s])
            answer[label[s]] += alpha * math.exp(-beta * (1 - affinity))
        found.append(answer)
    return found
