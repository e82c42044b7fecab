"""``diptych find-duplicates``: which pictures are near-duplicates of one another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.index import FOLDER, bar
from diptych.cli.output import Output, table
from diptych.cli.verb import verb

NAME = "find-duplicates"


@verb
def command(
    out: Output,
    path: Annotated[str, typer.Argument(help="A folder of pictures, other data, or an index.", show_default=False)],
    model: Annotated[str | None, typer.Option("--model", help="Model that embeds; the index's own, or mini for a new one.")] = None,
    folder: Annotated[Path, typer.Option("--index", help="Folder of the index that keeps the vectors.")] = Path(FOLDER),
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", min=0, max=1, help="Cosine from which two pictures count as one; 0.97 or what the model needs."),
    ] = None,
) -> None:
    """List groups of near-duplicates. What is not an index yet is indexed first."""
    from diptych.search.build import build
    from diptych.search.index import Index
    from diptych.search.sources import find

    source = None
    if (Path(path) / "index.json").is_file():
        folder = Path(path)
    else:
        source = find(path).name
        with bar(out) as tell:
            build(path, folder, model, progress=tell)
    index = Index.open(folder, model)
    groups = index.duplicates(threshold, source)
    rows = [[{"id": name, "path": index.row(name)["path"]} for name in group] for group in groups]
    data = {"groups": rows, "pictures": len(index), "index": str(folder)}
    shown = [
        (at if first else "", row["id"], row["path"]) for at, group in enumerate(rows, 1) for row in group for first in [row is group[0]]
    ]
    spare = sum(len(group) - 1 for group in groups)
    out.result(
        data,
        f"{len(groups):,} groups; {spare:,} pictures stand beside another one",
        *([table("", (">group", "id", "path"), shown)] if rows else []),
    )
