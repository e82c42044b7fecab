"""CLIP's loss for the objectives that add to it: found by its name, so that no method file imports another."""

from __future__ import annotations

from diptych.core import registry
from diptych.core.types import Loss, Pairs


def clip(pairs: Pairs) -> Loss:
    """The objective ``clip`` with its default options."""
    return registry.find("clip", "objective").function(pairs)
