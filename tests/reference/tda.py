"""TDA in float64: two dictionaries of lists, one picture after another."""

from __future__ import annotations

import math


def logits(rows, text, scale, *, sure=(3, 2.0, 5.0), negative=(2, 0.117, 1.0), unsure=(0.2, 0.5), mask=0.03):
    """``logits[n][k]`` of a stream of ``rows``; plain lists of floats."""
    kept, against, found = {}, {}, []
    for row in rows:
        zero = [scale * dot(row, t) for t in text]
        chance = softmax(zero)
        entropy = -sum(p * math.log(p) for p in chance if p > 0)
        best = zero.index(max(zero))
        collect(kept, best, (entropy, row, None), sure[0])
        if unsure[0] < entropy / math.log2(len(text)) < unsure[1]:
            collect(against, best, (entropy, row, [float(mask < p < 1) for p in chance]), negative[0])
        answer = list(zero)
        for k, items in kept.items():
            for _, key, _ in items:
                answer[k] += sure[1] * math.exp(-sure[2] * (1 - dot(row, key)))
        for items in against.values():
            for _, key, spoken in items:
                for k in range(len(text)):
                    answer[k] -= negative[1] * math.exp(-negative[2] * (1 - dot(row, key))) * spoken[k]
        found.append(answer)
    return found


def collect(cache, k, item, places):
    """Into the class's list, which stays sorted by entropy; a full one loses its last where that is more uncertain."""
    items = cache.setdefault(k, [])
    if len(items) < places:
        items.append(item)
    elif items and item[0] < items[-1][0]:
        items[-1] = item
    items.sort(key=lambda each: each[0])


def softmax(values):
    """Shares of a row."""
    top = max(values)
    made = [math.exp(v - top) for v in values]
    return [m / sum(made) for m in made]


def dot(a, b):
    """Inner product."""
    return sum(x * y for x, y in zip(a, b, strict=True))
