"""MaPLe in float64: the coupling function of section 3.2 and the loss, as loops over plain lists."""

from __future__ import annotations

import math


def coupled(text, weight, bias):
    """``vision[j][m][v]`` of ``text[j][m][w]`` by ``weight[j][v][w]`` and ``bias[j][v]``."""
    vision = []
    for layer, matrix, shift in zip(text, weight, bias, strict=True):
        vision.append(
            [[sum(a * x for a, x in zip(row, token, strict=True)) + b for row, b in zip(matrix, shift, strict=True)] for token in layer]
        )
    return vision


def loss(picture, row, scale, label):
    """Mean cross-entropy of unit rows of pictures and of classes."""
    total = 0.0
    for x, k in zip(picture, label, strict=True):
        logits = [scale * sum(a * b for a, b in zip(x, t, strict=True)) for t in row]
        top = max(logits)
        total += math.log(sum(math.exp(one - top) for one in logits)) + top - logits[k]
    return total / len(label)
