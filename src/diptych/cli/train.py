"""``diptych train``: pairs in, a measured model out."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.inputs import overrides
from diptych.cli.output import Output, output_folder, records_table
from diptych.cli.verb import verb

NAME = "train"


@verb
def command(
    out: Output,
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="A recipe, methods joined by + (cloob, slip+random-mask), or a run.yaml; without it one is picked, with reasons.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="Pairs: folder, table, tar shards, or the name of a set.")] = None,
    column: Annotated[list[str], typer.Option("--column", help="Part of a sample and its column: image=file, caption=title.")] = [],  # noqa: B006
    split: Annotated[str | None, typer.Option("--split", help="Which split to train on, where there are several.")] = None,
    val: Annotated[str | None, typer.Option("--val", help="Validation data; without it a split or a part of the data.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="A model to start from.")] = None,
    tune: Annotated[str | None, typer.Option("--tune", help="With --from: all, image or heads.")] = None,
    settings: Annotated[list[str], typer.Option("--set", help="A setting as optim.lr=3e-4; may repeat.")] = [],  # noqa: B006
    folder: Annotated[Path, typer.Option("--out", help="Folder of the run; the same folder resumes.")] = Path("runs/train"),
    check: Annotated[bool, typer.Option("--check", help="Look at the data and the settings, train nothing.")] = False,
) -> None:
    """Train on pictures with words: preflight, training, validation, model folder, report."""
    from diptych.cli.training import Request, train

    request = Request(
        recipe=recipe,
        data=data,
        overrides=overrides(column, split),
        val=val,
        start=start,
        tune=tune,
        settings=tuple(settings),
        folder=folder if check else output_folder(folder, "runs/train-2"),
        check=check,
        command=shlex.join(["diptych", *sys.argv[1:]]),
    )
    result = train(request, out.log)
    if result is None:
        return
    if check:
        out.result(result, result["settings"])
        return
    shown = [records_table(result["records"], "on held-back data")] if result["records"] else ["no data was held back to measure on"]
    out.result(result, *shown, f"model: {result['model']}", f"report: {result['report']}")
