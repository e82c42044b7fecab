"""``diptych compare``: several models on the same data, in one table and on one page."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.output import Output, output_folder, table
from diptych.cli.verb import verb

if TYPE_CHECKING:
    from diptych.evaluate.compare import Comparison

NAME = "compare"


@verb
def command(
    out: Output,
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Two or more models.", show_default=False)],
    data: Annotated[list[str], typer.Option("--data", help="Path or name of a set, or a folder of public sets; may repeat.")] = [],  # noqa: B006
    suite: Annotated[str | None, typer.Option("--suite", help="quick or full; quick where no --data is given.")] = None,
    protocol: Annotated[list[str], typer.Option("--protocol", help="Only this protocol, such as zero_shot; may repeat.")] = [],  # noqa: B006
    reference: Annotated[str | None, typer.Option("--reference", help="The model that differences are to; the first by default.")] = None,
    folder: Annotated[Path, typer.Option("--out", help="Folder for compare.html, comparison.json and a report of each model.")] = Path(
        "runs/compare"
    ),
    limit: Annotated[int | None, typer.Option("--limit", min=2, help="At most this many samples of each set, drawn by the seed.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the bootstrap and of --limit.")] = 0,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Pictures encoded at a time.")] = 64,
    again: Annotated[bool, typer.Option("--again", help="Measure anew what the folder of --out holds already.")] = False,
) -> None:
    """Compare models: differences on the same examples that hold all at once, ranks, and what each costs."""
    from diptych.evaluate.compare import compare
    from diptych.evaluate.report.compare_page import statement

    made = compare(
        models,
        list(data) or None,
        out=output_folder(folder, "runs/compare-2"),
        suite=suite or (None if data else "quick"),
        protocols=protocol or None,
        reference=reference,
        limit=limit,
        seed=seed,
        again=again,
        command=shlex.join(["diptych", *sys.argv[1:]]),
        batch_size=batch,
        progress=out.log.is_terminal,
        say=out.say,
    )
    out.result(asdict(made), *tables(made), statement(made), *made.left_out, f"page: {folder / 'compare.html'}")


def tables(made: Comparison) -> list[Any]:
    """Every number, the standing, and, where it was measured, how alike the models are."""
    from diptych.evaluate.report import compare_page as page

    rows = [
        (
            row.set,
            row.title,
            cell.model,
            page.value(cell.value, row.share),
            "reference" if cell.difference is None else page.signed(cell.difference, row.share),
            "" if cell.together is None else page.bounds(cell.together, row.share),
            {"up": "better", "down": "worse", "": ""}[page.direction(row, cell)],
            page.rank_of(row, cell),
        )
        for row in made.rows
        for cell in row.cells
    ]
    numbers = table("", ("set", "number", "model", ">value", ">difference", ">interval, all at once", "", ">rank"), rows)
    columns = ("model", ">average", ">95 % interval", ">rank", ">95 % interval", ">ms a picture", ">parameters")
    standings = table("standing", columns, page.standing_rows(made.standings))
    kin = [(f"{one.left}, {one.right}", one.set, page.likeness(one), page.likeness_bounds(one), str(one.n)) for one in made.likeness]
    alike = table("likeness of rows (CKA)", ("models", "set", ">likeness", ">95 % interval", ">n"), kin)
    return [numbers, standings, *([alike] if kin else [])]
