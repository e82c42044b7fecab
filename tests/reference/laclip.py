"""Naive twin of LaCLIP's text augmentation (arXiv:2305.20088, section 3): how likely each text is."""

from __future__ import annotations


def reference(caption: str, rewrites: list[str], original: float | None = None) -> dict[str, float]:
    """Probability of each text: even over the caption and its M rewrites, or ``original`` for the caption and the rest shared."""
    chances: dict[str, float] = {}
    if not rewrites:
        return {caption: 1.0}
    for text in [caption, *rewrites]:
        if original is None:
            share = 1.0 / (1 + len(rewrites))
        else:
            share = original if text is caption else (1.0 - original) / len(rewrites)
        chances[text] = chances.get(text, 0.0) + share
    return chances
