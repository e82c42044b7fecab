"""Finds evaluation sets by scanning this folder for ``SET`` or ``SETS``: no list to keep."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path

from diptych.core.errors import UsageError, nearest
from diptych.data.sets.base import EvalSet

LONGEST = 700  # characters of a list of names that still helps


@functools.cache
def _all() -> Mapping[str, EvalSet]:
    found: dict[str, EvalSet] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        module = importlib.import_module(f"diptych.data.sets.{path.stem}") if path.stem not in ("__init__", "base", "find") else None
        declared = (*getattr(module, "SETS", ()), *([module.SET] if hasattr(module, "SET") else []))  # type: ignore[union-attr]
        for one in declared:
            if one.name in found:
                raise ValueError(f"{path} declares {one.name!r}, which another file declares too")
            found[one.name] = one
    return found


def names() -> tuple[str, ...]:
    """The names of every set, sorted."""
    return tuple(sorted(_all()))


def find(name: str) -> EvalSet:
    """The set called ``name``; a :class:`UsageError` names the nearest known one, or those that begin as it does."""
    if name not in _all():
        heads = sorted({known.partition("/")[0] for known in names()})
        mend = nearest(name, [known for known in names() if known.startswith(f"{name.partition('/')[0]}/")] or names())
        if len(mend) > LONGEST:
            mend = f"Check the path; the names of sets begin with {', '.join(heads)}"
        raise UsageError(name, "no file or folder lies there and no set has this name", mend)
    return _all()[name]
