"""k nearest neighbours with words, in float64: sort, take k, add exponentials by class."""

from __future__ import annotations

import math


def logits(image, label, text, scale, rows, *, k, temperature, alpha, words=1.0):
    """``logits[n][c]`` of ``rows``; plain lists of floats; ``k=None`` lets all vote."""
    found = []
    for x in rows:
        cosine = [(sum(a * b for a, b in zip(x, key, strict=True)), y) for key, y in zip(image, label, strict=True)]
        near = sorted(cosine, reverse=True)[: k or len(cosine)]
        found.append([])
        for c in range(len(text)):
            votes = sum(math.exp(value / temperature) / math.exp(1 / temperature) for value, y in near if y == c)
            found[-1].append(words * scale * sum(a * b for a, b in zip(x, text[c], strict=True)) + alpha * votes)
    return found
