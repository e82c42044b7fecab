"""AMU-Tuning in float64: start, doubt and answer, picture by picture."""

from __future__ import annotations

import math


def dot(a, b):
    """Inner product."""
    return sum(x * y for x, y in zip(a, b, strict=True))


def standard(x):
    """Mean 0, deviation 1."""
    mean = sum(x) / len(x)
    deviation = math.sqrt(sum((a - mean) ** 2 for a in x) / (len(x) - 1))
    return [(a - mean) / deviation for a in x]


def doubt_of(zero, kind, power):
    """Of one zero-shot answer."""
    top = max(zero)
    exp = [math.exp(a - top) for a in zero]
    chance = [a / sum(exp) for a in exp]
    if kind == "none":
        return 1.0
    if kind == "entropy":
        return math.exp(-power * sum(p * math.log2(p) for p in chance) / math.log2(len(chance)))
    return 1 / (sum(a**4 for a in standard(chance)) / len(chance) / 250) ** power


def start(aux, label, classes):
    """The first classifier."""
    weight = [[0.0] * len(aux[0]) for _ in range(classes)]
    for x, k in zip(aux, label, strict=True):
        weight[k] = [a + b / (len(label) / classes) for a, b in zip(weight[k], x, strict=True)]
    return weight


def logits(zero, aux, weight, *, alpha, doubt, power):
    """Of pictures, from their zero-shot logits and auxiliary rows."""
    found = []
    for z, x in zip(zero, aux, strict=True):
        bias = standard([dot(x, w) for w in weight])
        found.append([a + alpha * doubt_of(z, doubt, power) * b for a, b in zip(z, bias, strict=True)])
    return found
