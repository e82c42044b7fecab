"""Naive float64 twin of GenHancer (arXiv:2503.19480, section 3): the velocity of a rectified flow, in loops."""

from __future__ import annotations

import torch

OPTIONS = [{}]
STOPPED = {"clean", "noise"}


def material(n, draw):
    names = ("prediction", "clean", "noise")
    return {name: torch.randn(n, 3, 2, 2, generator=draw, dtype=torch.float64) for name in names}


def flat(values):
    """All numbers of nested lists, in order."""
    return [x for value in values for x in flat(value)] if isinstance(values, list) else [values]


def reference(image, text, concept, scale, bias, *, taps) -> float:
    total = 0.0
    for i in range(len(image)):
        told = [e - x for e, x in zip(flat(taps["noise"][i]), flat(taps["clean"][i]), strict=True)]
        seen = flat(taps["prediction"][i])
        total += sum((a - b) ** 2 for a, b in zip(seen, told, strict=True)) / len(told)
    return total / len(image)
