"""The application: the verbs, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer

import diptych
from diptych.cli import (
    adapt,
    catalogue,
    classify,
    compare,
    convert,
    demo,
    encode,
    evaluate,
    find_duplicates,
    index,
    inspect,
    report,
    search,
    serve,
    train,
)
from diptych.cli.output import show_error
from diptych.core.errors import DiptychError, UsageError

ClickException: Any = typer.BadParameter.__mro__[2]  # typer carries its own copy of click from 0.26 on, so the base is read off it
VERBS = (
    demo,
    train,
    adapt,
    evaluate,
    compare,
    inspect,
    classify,
    encode,
    convert,
    index,
    search,
    find_duplicates,
    serve,
    report,
    catalogue,
)

app = typer.Typer(
    name="diptych",
    help="One toolkit for contrastive image–text models. Start with: diptych demo",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _verb in VERBS:
    app.command(_verb.NAME)(_verb.command)


@app.callback(invoke_without_command=True)
def root(context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Without a verb: the help, or the version."""
    if version:
        typer.echo(diptych.__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


def usage(error: Any) -> UsageError:
    """A mistake in the call, found by the parser, in the form of every other error."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "diptych"
    return UsageError(path, error.format_message().rstrip(".").replace("\n", " "), f"See: {path} --help")


def explained(error: BaseException) -> tuple[DiptychError, int]:
    """Any exception as the one line that a person reads, and its exit code."""
    if isinstance(error, DiptychError):
        return error, error.exit_code
    if isinstance(error, ClickException):
        return usage(error), 2
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        mend = "Run the same command again; training and evaluation go on where they stopped"
        return DiptychError("interrupted", "stopped from the keyboard", mend), 130
    reason = str(error).strip().split("\n")[0] or "no message"
    return DiptychError(f"unexpected {type(error).__name__}", reason, "Run it again with --debug to see the traceback"), 1


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code: 0, 1 (failure), 2 (usage), 130 (interrupted).

    This holds the package's only ``except Exception``: whatever a verb did not foresee becomes one line that names the
    exception, since a traceback is for who asks for it (``--debug``). It hides nothing: the exit code is 1.
    """
    flags = set(arguments[: list(arguments).index("--")] if "--" in arguments else arguments)
    try:
        code = app(list(arguments), prog_name="diptych", standalone_mode=False)
        if code != 130:
            return code if isinstance(code, int) else 0
        caught: BaseException = KeyboardInterrupt()  # typer has turned it into the exit code already
    except (Exception, KeyboardInterrupt) as error:
        caught = error
    if "--debug" in flags:
        traceback.print_exception(caught)
    failure, code = explained(caught)
    show_error(failure, "--json" in flags)
    return code
