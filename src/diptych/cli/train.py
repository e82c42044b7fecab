"""``diptych train``: pairs in, a model out."""

from __future__ import annotations

NAME = "train"


def command() -> None:
    """Train."""
