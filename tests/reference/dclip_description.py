"""Classification by description in float64: the mean of the similarities to a class's descriptors."""

from __future__ import annotations


def logits(descriptors, scale, rows):
    """``logits[n][k]`` of ``rows``; ``descriptors[k]`` are the unit rows of the texts that describe class k, plain lists of floats."""
    found = []
    for x in rows:
        found.append([])
        for mine in descriptors:
            similar = [sum(a * b for a, b in zip(x, d, strict=True)) for d in mine]
            found[-1].append(scale * sum(similar) / len(similar))
    return found
