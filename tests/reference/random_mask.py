"""Naive twin of FLIP's mask: the patches with the largest noise stay, in their order (arXiv:2212.00794, section 3)."""

from __future__ import annotations


def reference(rows: list[list[list[float]]], prefix: int, noise: list[list[float]], ratio: float) -> tuple[list, list[list[int]]]:
    """Tokens that stay, and the indices of the patches that stay, for each image.

    Args:
        rows: images × tokens × width, prefix tokens first.
        noise: images × patches, one uniform number each.
    """
    tokens, kept = [], []
    for row, numbers in zip(rows, noise, strict=True):
        patches = row[prefix:]
        count = max(1, len(patches) - round(ratio * len(patches)))
        ranking = sorted(range(len(patches)), key=lambda i: -numbers[i])
        stay = sorted(ranking[:count])
        tokens.append(row[:prefix] + [patches[i] for i in stay])
        kept.append(stay)
    return tokens, kept
