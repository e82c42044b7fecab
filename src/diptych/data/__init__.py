"""Reading pictures and words: sources, decoding, batching, tokenizers, evaluation sets."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diptych.data.mixing import mix as mix
    from diptych.data.open import open as open

_LAZY = {"open": "diptych.data.open", "mix": "diptych.data.mixing"}


def __getattr__(name: str) -> Any:
    """``diptych.data.open`` and ``diptych.data.mix``, imported when first asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
