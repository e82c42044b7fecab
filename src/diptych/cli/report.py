"""``diptych report``: rebuild the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.output import Output
from diptych.cli.verb import verb

NAME = "report"


@verb
def command(
    out: Output,
    folder: Annotated[Path, typer.Argument(help="A run or evaluation folder with records.jsonl.", show_default=False)],
) -> None:
    """Rebuild report.html from the records, log and recipe in a folder."""
    from diptych.evaluate.report import build

    page = build(folder)
    out.result({"report": str(page)}, f"report: {page}")
