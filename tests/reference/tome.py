"""Naive twin of ToMe's bipartite soft matching in one block: plain loops over lists, from arXiv:2210.09461, section 3."""

from __future__ import annotations

import math


def cosine(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))


def reference(patches: list[list[float]], sizes: list[float], keys: list[list[float]], r: int) -> tuple[list[list[float]], list[float]]:
    """One image's patch tokens and sizes after ``r`` merges: the rest of the first set, then the second."""
    first, second = list(range(0, len(patches), 2)), list(range(1, len(patches), 2))
    edges = []
    for i in first:
        best = max(second, key=lambda j: cosine(keys[i], keys[j]))
        edges.append((cosine(keys[i], keys[best]), i, best))
    kept_edges = sorted(edges, reverse=True)[:r]
    into: dict[int, list[int]] = {j: [j] for j in second}
    gone = set()
    for _, i, j in kept_edges:
        into[j].append(i)
        gone.add(i)
    groups = [[i] for i in first if i not in gone] + [into[j] for j in second]
    tokens, new_sizes = [], []
    for group in groups:
        total = math.fsum(sizes[i] for i in group)
        tokens.append([math.fsum(sizes[i] * patches[i][d] for i in group) / total for d in range(len(patches[0]))])
        new_sizes.append(total)
    return tokens, new_sizes
