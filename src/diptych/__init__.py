"""One toolkit for contrastive image–text models over their whole life.

Importing the package loads nothing heavy; the functions below are looked up when they are first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diptych import adapt
    from diptych.data.open import open
    from diptych.engine.loop import train
    from diptych.evaluate.run import evaluate
    from diptych.towers.formats.load import load, save

__version__ = "0.1.0"

_EXPORTS = {
    "load": "diptych.towers.formats.load",
    "save": "diptych.towers.formats.load",
    "open": "diptych.data.open",
    "train": "diptych.engine.loop",
}

__all__ = ["__version__", "adapt", "evaluate", "load", "open", "save", "train"]


def __getattr__(name: str) -> Any:
    """The exported function ``name``, importing its module now. ``evaluate`` is a package that can be called."""
    if name == "evaluate":
        return import_module("diptych.evaluate")
    if name not in _EXPORTS:
        raise AttributeError(f"module 'diptych' has no attribute {name!r}")
    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})


class _Adapt(ModuleType):
    """The folder of adaptation methods, which is the verb too: ``diptych.adapt(model, data)`` gives the adapted model back."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return import_module("diptych.recipes.adapt").adapt(*arguments, **options).model


sys.modules[import_module("diptych.adapt").__name__].__class__ = _Adapt
