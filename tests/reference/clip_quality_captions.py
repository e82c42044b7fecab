"""Naive twin of the study's shuffling: captions go round a ring of the chosen samples, in the order that was drawn."""

from __future__ import annotations


def reference(captions: list[str], order: list[int], share: float) -> list[str]:
    """The captions after the shuffle."""
    ring = order[: round(share * len(captions))]
    after = list(captions)
    for place, index in enumerate(ring):
        after[index] = captions[ring[(place + 1) % len(ring)]]
    return after
