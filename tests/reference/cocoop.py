"""CoCoOp in float64: the network that moves the context, a number at a time."""

from __future__ import annotations


def context(image, start, down, down_bias, up, up_bias):
    """The context of one picture: each of its tokens (lists of floats) moved by the same numbers."""
    hidden = [max(0.0, sum(w * x for w, x in zip(row, image, strict=True)) + b) for row, b in zip(down, down_bias, strict=True)]
    move = [sum(w * h for w, h in zip(row, hidden, strict=True)) + b for row, b in zip(up, up_bias, strict=True)]
    return [[c + m for c, m in zip(token, move, strict=True)] for token in start]


def logits(image, text, scale):
    """``logits[n][k]`` where every picture n has class rows of its own, ``text[n][k]``."""
    return [
        [scale * sum(a * b for a, b in zip(x, row, strict=True)) for row in rows] for x, rows in zip(image, text, strict=True)
    ]  # fmt: skip
