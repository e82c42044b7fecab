"""What every verb has: ``--json``, ``--debug``, and an open :class:`Output`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_type_hints

import typer

from diptych.cli.output import Output

JSON = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
DEBUG = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """Turn ``function(out, …)`` into a typer command: its own options and the two that all verbs share.

    ``--debug`` is read by ``app.run`` from the command line itself, since an error may come before any option is parsed.
    """
    hints = get_type_hints(function, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name], kind=Parameter.KEYWORD_ONLY)
        for name, parameter in signature(function).parameters.items()
        if name != "out"
    ]
    shared = [
        Parameter("as_json", Parameter.KEYWORD_ONLY, default=False, annotation=JSON),
        Parameter("debug", Parameter.KEYWORD_ONLY, default=False, annotation=DEBUG),
    ]

    @functools.wraps(function)
    def call(**options: Any) -> None:
        del options["debug"]
        with Output(options.pop("as_json")) as out:
            function(out, **options)

    del call.__wrapped__  # type: ignore[attr-defined]
    call.__signature__ = Signature([*own, *shared])  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *shared)}
    return call
