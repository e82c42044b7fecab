"""LaplacianShot in float64: every update as a loop over the pool and its neighbours."""

from __future__ import annotations

import math


def unit(x):
    """At length 1."""
    length = math.sqrt(sum(a * a for a in x))
    return [a / length for a in x]


def dot(a, b):
    """Inner product."""
    return sum(x * y for x, y in zip(a, b, strict=True))


def softmax(x):
    """Adds up to 1."""
    top = max(x)
    exp = [math.exp(a - top) for a in x]
    return [a / sum(exp) for a in exp]


def mixed(share, first, second):
    """Between two rows."""
    return [(1 - share) * a + share * b for a, b in zip(first, second, strict=True)]


def mean(rows):
    """Of rows."""
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def named(image, label, text, scale, pool, *, pull, neighbours, share, steps):
    """``y[u][k]``."""
    classes, count = len(text), len(pool)
    prototype = []
    for k in range(classes):
        mine = [x for x, y in zip(image, label, strict=True) if y == k] or [text[k]]
        prototype.append(unit(mixed(share, text[k], unit(mean(mine)))))
    unary = [[scale / 2 * sum((a - b) ** 2 for a, b in zip(x, p, strict=True)) for p in prototype] for x in pool]
    near = [sorted((v for v in range(count) if v != u), key=lambda v: -dot(pool[u], pool[v]))[:neighbours] for u in range(count)]
    y, last = [softmax([-a for a in row]) for row in unary], math.inf
    for _ in range(steps):
        y = [softmax([pull * sum(y[v][k] for v in near[u]) - unary[u][k] for k in range(classes)]) for u in range(count)]
        energy = 0.0
        for u in range(count):
            for k in range(classes):
                energy += y[u][k] * (math.log(max(y[u][k], 1e-20)) + unary[u][k] - pull * sum(y[v][k] for v in near[u]))
        if abs(energy - last) <= 1e-6 * abs(last):
            break
        last = energy
    return y


def logits(image, label, text, scale, rows, *, pool, pull, neighbours, share, steps):
    """``logits[n][k]`` of ``rows`` by the head."""
    y = named(image, label, text, scale, pool, pull=pull, neighbours=neighbours, share=share, steps=steps)
    said = [*label, *(row.index(max(row)) for row in y)]
    weight = []
    for k in range(len(text)):
        mine = [x for x, name in zip([*image, *pool], said, strict=True) if name == k] or [text[k]]
        weight.append([scale * a for a in mixed(share, text[k], unit(mean(mine)))])
    return [[dot(x, w) for w in weight] for x in rows]
