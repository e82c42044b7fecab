"""Fed-MP in float64: the adapter, the closeness of a client, the joint adapter and the prototypes, number by number."""

from __future__ import annotations

import math


def unit(x):
    """At length 1."""
    length = math.sqrt(sum(a * a for a in x))
    return [a / length for a in x]


def dot(a, b):
    """Inner product."""
    return sum(x * y for x, y in zip(a, b, strict=True))


def chances(logits):
    """Softmax."""
    top = max(logits)
    exp = [math.exp(x - top) for x in logits]
    return [x / sum(exp) for x in exp]


def adapted(x, down, low, up, high):
    """One row."""
    inner = [math.tanh(dot(row, x) + b) for row, b in zip(down, low, strict=True)]
    attended = chances([dot(row, inner) + b for row, b in zip(up, high, strict=True)])
    return unit([a * b for a, b in zip(attended, x, strict=True)])


def closeness(text, words):
    """Mean over the asked classes of the sum over the client's."""
    return sum(sum(dot(unit(t), unit(w)) for w in words) for t in text) / len(text)


def prototypes(rows, text, scale, uncertainty, together=18):
    """After the stream of adapted rows."""
    taken = [[] for _ in text]
    made = text
    for start in range(0, len(rows), together):
        said = []
        for x in rows[start : start + together]:
            chance = chances([scale * dot(x, p) for p in made])
            entropy = -sum(p * math.log(p) for p in chance if p > 0)
            if entropy < uncertainty * math.log(len(text)):
                said.append((chance.index(max(chance)), x))
        for k, x in said:
            taken[k].append(x)
        if all(taken):
            made = []
            for t, own in zip(text, taken, strict=True):
                mean = [sum(column) / len(own) for column in zip(*own, strict=True)]
                made.append(unit([a + b for a, b in zip(t, mean, strict=True)]))
    return made
