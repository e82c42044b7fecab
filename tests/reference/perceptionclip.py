"""PerceptionCLIP in float64: the sums of its algorithm 1 as loops."""

from __future__ import annotations

import math


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def logits(both, pure, scale, rows, *, infer, tau):
    """``logits[n][k]``, log probabilities; ``both[k][z]`` and ``pure[z]`` are unit rows, plain lists of floats."""
    found = []
    for x in rows:
        f = [[scale * dot(x, z) for z in some] for some in both]
        count = len(pure)
        if infer == "with classes":
            seen = [sum(math.exp(f[k][z] / tau) for k in range(len(f))) for z in range(count)]
        else:
            seen = [math.exp(scale * dot(x, pure[z]) / tau) for z in range(count)]
        share = [value / sum(seen) for value in seen]
        found.append([])
        for k in range(len(f)):
            total = 0.0
            for z in range(count):
                total += share[z] * math.exp(f[k][z]) / sum(math.exp(f[other][z]) for other in range(len(f)))
            found[-1].append(math.log(total))
    return found
