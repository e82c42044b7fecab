"""``diptych demo``: a small model learns on the embedded corpus while one watches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.output import Output, output_folder, records_table
from diptych.cli.verb import verb

NAME = "demo"


@verb
def command(
    out: Output,
    folder: Annotated[Path, typer.Option("--out", help="Folder for the run and its report.")] = Path("runs/demo"),
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="How long to train.")] = 240,
) -> None:
    """Train on the embedded drawings for some minutes, evaluate, and write a report. Downloads nothing."""
    from diptych.recipes.demo import run_demo

    result = run_demo(out=output_folder(folder, "runs/demo-2"), seconds=seconds, console=out.log)
    out.result(result, records_table(result["records"], "headline"), f"report: {result['report']}")
