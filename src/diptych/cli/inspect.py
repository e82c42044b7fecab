"""``diptych inspect``: what is in this data, before any training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.output import Output
from diptych.cli.verb import verb

NAME = "inspect"


@verb
def command(
    out: Output,
    data: Annotated[str, typer.Argument(help="Folder, table, tar shards, or the name of a set.", show_default=False)],
    model: Annotated[str | None, typer.Option("--model", help="Model whose tokenizer counts the captions that are cut.")] = None,
    column: Annotated[list[str], typer.Option("--column", help="A table's column, as image=file or caption=text.")] = [],  # noqa: B006
    samples: Annotated[Path | None, typer.Option("--samples", help="Folder for three decoded samples.")] = None,
) -> None:
    """Look at data: counts, samples, captions, duplicates, broken files."""
