"""Naive twin of EViT's token reorganization in one block: plain loops over lists, from arXiv:2202.07800, sections 3.2 and 3.3."""

from __future__ import annotations

import math


def reference(patches: list[list[float]], sizes: list[float], attention: list[float], keep: float) -> tuple[list, list[float], list[int]]:
    """One image's patch tokens, sizes and the places of the kept ones; the fused token stands last."""
    count = math.ceil(keep * len(patches))
    ranking = sorted(range(len(patches)), key=lambda i: -attention[i])
    kept, rest = sorted(ranking[:count]), ranking[count:]
    tokens, new_sizes = [patches[i] for i in kept], [sizes[i] for i in kept]
    if rest:
        tokens.append([math.fsum(attention[i] * patches[i][d] for i in rest) for d in range(len(patches[0]))])
        new_sizes.append(math.fsum(sizes[i] for i in rest))
    return tokens, new_sizes, kept
