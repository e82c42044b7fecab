"""Naive twin of PTP's prompt (arXiv:2212.09737, section 3.1): the block is found by looking through all of them."""

from __future__ import annotations

from fractions import Fraction


def reference(caption: str, box: list[float], name: str, blocks: int) -> str:
    """The caption with the prompt of one thing."""
    x, y = ((Fraction(box[i]) + Fraction(box[i + 2])) / 2 for i in (0, 1))
    for number in range(blocks * blocks):
        left, top = Fraction(number % blocks, blocks), Fraction(number // blocks, blocks)
        side = Fraction(1, blocks)
        inside = left <= x < left + side or (x == 1 and left + side == 1)
        if inside and (top <= y < top + side or (y == 1 and top + side == 1)):
            return f"{caption}. The block {number} has a {name}."
    raise ValueError("the box lies outside")
