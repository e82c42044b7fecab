"""Naive twin of PiToMe in one block: plain loops over lists, from arXiv:2405.16148, equation 4 and algorithm 1."""

from __future__ import annotations

import math


def cosine(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))


def energy(i: int, keys: list[list[float]], margin: float, alpha: float) -> float:
    found = []
    for key in keys:
        c = cosine(keys[i], key)
        found.append(c if c >= margin else alpha * (math.exp(c - margin) - 1.0))
    return math.fsum(found) / len(keys)


def reference(patches, sizes, keys, merges, block, depth, alpha=1.0) -> tuple[list[list[float]], list[float]]:
    """One image's patch tokens and sizes after ``merges`` pairs have merged: protected ones by falling energy, then the others."""
    margin = 0.9 - 0.9 * block / depth
    ranking = sorted(range(len(patches)), key=lambda i: -energy(i, keys, margin, alpha))
    candidates, protected = ranking[: 2 * merges], ranking[2 * merges :]
    sources, targets = candidates[0::2], candidates[1::2]
    groups = {j: [j] for j in targets}
    for i in sources:
        groups[max(targets, key=lambda j: cosine(keys[i], keys[j]))].append(i)
    tokens, new_sizes = [], []
    for group in [[i] for i in protected] + [groups[j] for j in targets]:
        total = math.fsum(sizes[i] for i in group)
        tokens.append([math.fsum(sizes[i] * patches[i][d] for i in group) / total for d in range(len(patches[0]))])
        new_sizes.append(total)
    return tokens, new_sizes
