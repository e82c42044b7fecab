"""PromptSRC in float64: agreement with the parent and the weights of the ensemble (section 3.2), as loops."""

from __future__ import annotations

import math


def chances(logits):
    """Softmax of one row."""
    top = max(logits)
    raised = [math.exp(one - top) for one in logits]
    return [one / sum(raised) for one in raised]


def apart(rows, others):
    """Mean absolute difference of all numbers."""
    differences = [abs(a - b) for x, y in zip(rows, others, strict=True) for a, b in zip(x, y, strict=True)]
    return sum(differences) / len(differences)


def dot(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


def loss(picture, row, plain_picture, plain_row, scale, label, agree=1.0, text_weight=25.0, image_weight=10.0):
    """Cross-entropy, and the three agreement terms."""
    answers = [[scale * dot(x, t) for t in row] for x in picture]
    plain = [[scale * dot(x, t) for t in plain_row] for x in plain_picture]
    wrong = -sum(math.log(chances(a)[k]) for a, k in zip(answers, label, strict=True)) / len(label)
    divergence = 0.0
    for a, p in zip(answers, plain, strict=True):
        for mine, theirs in zip(chances(a), chances(p), strict=True):
            divergence += theirs * (math.log(theirs) - math.log(mine))
    divergence /= len(answers) * len(row)
    return wrong + agree * (text_weight * apart(row, plain_row) + image_weight * apart(picture, plain_picture) + divergence)


def shares(epochs, mean, deviation):
    """Gaussian weights of the epochs 1 … E, made to sum to 1."""
    height = [math.exp(-0.5 * ((epoch - mean * epochs) / (deviation * epochs)) ** 2) for epoch in range(1, epochs + 1)]
    return [one / sum(height) for one in height]
