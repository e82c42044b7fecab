"""ComCLIP in float64: one picture and one caption, its parts one after the other."""

from __future__ import annotations

import math


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def logit(whole, windows, caption, phrases, joint, scale, *, worth="share"):
    """Logit of a picture and a caption; all rows are unit, plain lists of floats.

    Args:
        whole, windows: the picture's row and those of its windows.
        caption, phrases: the caption's row and those of its phrases.
        joint: None, or a function from the chosen windows' positions to two rows: of the picture seen through all of them, and of the
            words of the relation.
    """
    taken = [max(range(len(windows)), key=lambda w: dot(windows[w], p)) for p in phrases]
    parts = [(windows[w], dot(windows[w], p)) for w, p in zip(taken, phrases, strict=True)]
    if joint is not None:
        seen, relation = joint(taken)
        parts.append((seen, dot(seen, relation)))
    if worth == "softmax":
        weights = [math.exp(scale * value) for _, value in parts]
    else:
        weights = [max(0.0, value) for _, value in parts]
    if sum(weights) == 0:
        weights = [1.0] * len(parts)
    made = list(whole)
    for (row, _), weight in zip(parts, weights, strict=True):
        made = [a + weight / sum(weights) * b for a, b in zip(made, row, strict=True)]
    return scale * dot(made, caption) / math.sqrt(dot(made, made))
