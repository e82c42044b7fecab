"""``diptych report``: rebuild the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.output import Output
from diptych.cli.verb import verb
from diptych.core.errors import DiptychError

NAME = "report"


@verb
def command(
    out: Output,
    folder: Annotated[Path, typer.Argument(help="A run or evaluation folder with records.jsonl.", show_default=False)],
) -> None:
    """Rebuild report.html from the records, log and recipe in a folder."""
    if not (folder / "records.jsonl").is_file():
        raise DiptychError(f"folder {folder}", "it holds no records.jsonl", f"Make one: diptych evaluate MODEL --out {folder}")
    from diptych.evaluate.report import build

    page = build(folder)
    out.result({"report": str(page)}, f"report: {page}")
