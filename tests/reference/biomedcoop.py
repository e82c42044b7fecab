"""BiomedCoOp in float64: the choice of usual descriptions by the code's own steps, and the three terms, over lists of unit rows."""

from __future__ import annotations

import math
import statistics


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit_mean(rows):
    mean = [sum(values) / len(rows) for values in zip(*rows, strict=True)]
    return [x / math.sqrt(dot(mean, mean)) for x in mean]


def softmax(row):
    top = max(row)
    parts = [math.exp(x - top) for x in row]
    return [part / sum(parts) for part in parts]


def usual(image, told, scale, tau):
    """Indices of the descriptions that are kept: scores over their median deviation from the median, then over their own deviation."""
    scores = [sum(max(scale * dot(x, row) for row in rows) for x in image) / len(image) for rows in told]
    middle = statistics.median_low(scores)
    spread = statistics.median_low([abs(s - middle) for s in scores])
    z = [(s - middle) / spread for s in scores]
    return [p for p, value in enumerate(z) if abs((value - statistics.mean(z)) / statistics.stdev(z)) <= tau]


def loss(image, label, text, told, scale, match, distil, tau):
    """Of one batch; ``told[p][k]``."""
    classes = range(len(text))
    kept = usual(image, told, scale, tau)
    teacher_rows = [unit_mean([told[p][k] for p in kept]) for k in classes]
    ends = [unit_mean([rows[k] for rows in told]) for k in classes]
    right, away = 0.0, 0.0
    for x, k in zip(image, label, strict=True):
        mine = softmax([scale * dot(x, row) for row in text])
        theirs = softmax([scale * dot(x, row) for row in teacher_rows])
        right -= math.log(mine[k])
        away += sum(t * math.log(t / m) for t, m in zip(theirs, mine, strict=True) if t > 0)
    far = sum((a - b) ** 2 for row, end in zip(text, ends, strict=True) for a, b in zip(row, end, strict=True))
    far /= len(text) * len(text[0])
    return right / len(image) + match * far + distil * away / (len(image) * len(text))
