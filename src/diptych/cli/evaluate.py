"""``diptych evaluate``: how good is a model on data, beside chance."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.output import Output, output_folder, records_table
from diptych.cli.verb import verb

NAME = "evaluate"


@verb
def command(
    out: Output,
    model: Annotated[str, typer.Argument(help="Model: a name, a folder, hf:… or open_clip:…", show_default=False)],
    data: Annotated[str, typer.Argument(help="Data: a path or the name of a set.")] = "pictograms",
    baseline: Annotated[str | None, typer.Option("--baseline", help="A model to compare with.")] = None,
    folder: Annotated[Path, typer.Option("--out", help="Folder for records.jsonl and report.html.")] = Path("runs/evaluate"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the bootstrap.")] = 0,
) -> None:
    """Measure a model on a set: each number with its interval and its chance level, and a page."""
    from diptych.evaluate.run import evaluate

    line = shlex.join(["diptych", *sys.argv[1:]])
    records = evaluate(model, data, baseline=baseline, seed=seed, command=line, out=output_folder(folder, "runs/evaluate-2"))
    rows = [record.as_dict() for record in records]
    out.result(rows, records_table(rows), f"report: {folder / 'report.html'}")
