"""How good a model is: protocols give per-example outcomes, metrics make numbers of them, records and the report keep them.

The package can be called: ``diptych.evaluate(model, data)`` is :func:`diptych.evaluate.run.evaluate`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from diptych.evaluate.run import evaluate

        return evaluate(*arguments, **options)


sys.modules[__name__].__class__ = _Callable
