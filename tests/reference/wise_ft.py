"""WiSE-FT's mixture and the choice of its share, in float64 as loops."""

from __future__ import annotations


def between(parent, child, share):
    """Weights between two, as lists of numbers."""
    return [(1 - share) * a + share * b for a, b in zip(parent, child, strict=True)]


def chosen(shares, hits):
    """The smallest share that no other beats."""
    return min(share for share, own in zip(shares, hits, strict=True) if not any(other > own for other in hits))
