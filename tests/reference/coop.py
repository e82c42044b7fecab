"""CoOp in float64: equations 2 and 3 of the paper as loops, and the published optimiser a number at a time."""

from __future__ import annotations

import math


def logits(image, text, scale):
    """``logits[n][k]``; plain lists of floats, unit rows."""
    return [[scale * sum(a * b for a, b in zip(x, t, strict=True)) for t in text] for x in image]


def loss(answers, label):
    """Mean cross-entropy."""
    total = 0.0
    for row, k in zip(answers, label, strict=True):
        top = max(row)
        total += math.log(sum(math.exp(x - top) for x in row)) + top - row[k]
    return total / len(label)


def rate(epoch, step, steps, epochs, lr):
    """Learning rate: one epoch at 1e-5, then along a cosine that runs over all steps."""
    return 1e-5 if epoch == 0 else lr * (1 + math.cos(math.pi * (epoch * steps + step) / (epochs * steps))) / 2


def sgd(context, gradient, speed, lr, momentum=0.9, decay=5e-4):
    """One step of a flat list of numbers; ``speed`` is None at first. Gives the new numbers and the new speed."""
    pull = [g + decay * c for g, c in zip(gradient, context, strict=True)]
    speed = pull if speed is None else [momentum * s + p for s, p in zip(speed, pull, strict=True)]
    return [c - lr * s for c, s in zip(context, speed, strict=True)], speed
