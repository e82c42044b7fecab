"""``diptych convert``: a model in another format, with the parity shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.output import Output
from diptych.cli.verb import verb
from diptych.core.errors import DiptychError, UsageError, nearest

NAME = "convert"
FORMATS = ("native", "open_clip", "huggingface", "openai")


@verb
def command(
    out: Output,
    model: Annotated[str, typer.Argument(help="Model: a name, a folder, hf:… or open_clip:…", show_default=False)],
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.", show_default=False)],
    to: Annotated[str, typer.Option("--to", help="native, open_clip, huggingface or openai.")] = "native",
) -> None:
    """Write a model in another format, load it again, and print how far the two differ."""
    if to not in FORMATS:
        raise UsageError(f"--to {to}", "no format of that name", nearest(to, FORMATS))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DiptychError(f"output {folder}", "it exists and is not an empty folder", "Give a new folder")

    from diptych.towers.formats.convert import convert

    parity = convert(model, folder, to)
    out.result(
        parity, f"{to} model in {folder}", f"largest difference after reloading: images {parity['image']:.1e}, texts {parity['text']:.1e}"
    )
