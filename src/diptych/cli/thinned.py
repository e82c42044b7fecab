"""What ``--tokens`` and its ``--set`` mean: a loaded model whose pictures go through a token method."""

from __future__ import annotations

from collections.abc import Sequence

from diptych.cli.inputs import options_of
from diptych.core import registry
from diptych.core.errors import UsageError
from diptych.engine.options import check_options
from diptych.towers.formats.load import load
from diptych.towers.thinned import Thinned


def thinned(model: str, tokens: str | None, settings: Sequence[str]) -> Thinned:
    """The model called ``model`` with the method ``tokens``, its options set by ``NAME=VALUE``.

    Raises:
        UsageError: options without a method, an unknown method or option, or a method that the model cannot use.
    """
    if tokens is None:
        raise UsageError(f"--set {settings[0]}", "it sets an option of a token method, and none is named", "Add --tokens tome")
    options = options_of(settings, "ratio=0.5")
    checked = check_options("tokens", tokens, options)
    loaded = load(model)
    told = " ".join([tokens, *(f"{name}={value}" for name, value in options.items())])
    return Thinned(loaded, registry.find(tokens, "tokens").make(checked, loaded.device), told)
