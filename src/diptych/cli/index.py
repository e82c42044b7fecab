"""``diptych index``: a folder of pictures, or any data, made searchable."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.output import Output, table
from diptych.cli.verb import verb

if TYPE_CHECKING:
    from diptych.search.build import Report
    from diptych.towers.dual import DualEncoder

NAME = "index"
FOLDER = "diptych-index"
SHOWN = 10


@verb
def command(
    out: Output,
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Folders, tables, tars or names of sets.", show_default=False)],
    model: Annotated[str | None, typer.Option("--model", help="Model that embeds; the index's own, or mini for a new one.")] = None,
    folder: Annotated[Path, typer.Option("--out", help="Folder of the index.")] = Path(FOLDER),
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and follow changes until stopped.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.1, help="Seconds between two looks under --watch.")] = 2.0,
    re_embed: Annotated[bool, typer.Option("--re-embed", help="Embed everything again where the index has another model.")] = False,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Pictures embedded at a time.")] = 64,
) -> None:
    """Make pictures searchable, or bring their index up to date: only what is new or has changed is embedded."""
    from diptych.search.build import build
    from diptych.search.manifest import Manifest
    from diptych.towers.formats.load import load

    old = Manifest.read(folder)
    encoder = load(name := model or (old.model if old else "mini"))

    def once() -> Report:
        with bar(out) as tell:
            return build(paths, folder, encoder, re_embed=re_embed, batch_size=batch, progress=tell, name=name)

    began = time.monotonic()
    report = once()
    if old is None and model is None:
        report.notes.append("model mini, which knows drawings; for photographs: --model pocket --re-embed")
    show(out, report, folder, name, time.monotonic() - began)
    if watch:
        out.say(f"watching {', '.join(paths)}; stop with Ctrl-C")
        follow(out, once, encoder, paths, folder, name, every)


def follow(out: Output, once: Callable[[], Report], encoder: DualEncoder, paths: list[str], folder: Path, name: str, every: float) -> None:
    """Look at the data again and again; index them when they have changed. Ends by an interrupt."""
    from diptych.core.errors import DiptychError
    from diptych.search.sources import find

    seen = marks(paths, find)
    while True:
        time.sleep(every)
        try:
            now = marks(paths, find)
            if now == seen:
                continue
            began = time.monotonic()
            report = once()
        except DiptychError as error:  # a folder that is empty or gone for a moment does not end the watch
            out.say(f"not indexed: {error}")
            continue
        seen = now
        if report.touched:
            show(out, report, folder, name, time.monotonic() - began)


def marks(paths: list[str], find: Callable[[str], Any]) -> list[str]:
    """What tells whether the data have changed."""
    return [find(path).fingerprint() for path in paths]


class bar:
    """A progress bar with an estimate of the time that is left, on standard error; only where there is something to embed."""

    def __init__(self, out: Output) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress, self._task = Progress(*columns, console=out.log), None

    def __enter__(self) -> Callable[[int, int], None]:
        return self._tell

    def __exit__(self, *error: object) -> None:
        if self._task is not None:
            self._progress.stop()

    def _tell(self, done: int, total: int) -> None:
        if not total:
            return
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task("pictures", total=total)
        self._progress.update(self._task, completed=done)


def show(out: Output, report: Report, folder: Path, model: str, seconds: float) -> None:
    """The report as a line and a list of what could not be read."""
    counts = {name: getattr(report, name) for name in ("added", "changed", "moved", "deleted", "renewed", "unchanged")}
    line = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "nothing to do"
    said = [*report.notes, f"{folder}: {report.pictures:,} pictures ({line}) in {seconds:.1f} s"]
    if found := report.approximate:
        short = "" if found["recall"] >= found["aim"] else f", below the {found['aim']} that was aimed at"
        said.append(f"search is approximate: recall at 10 against exact search {found['recall']:.3f}{short} ({found['queries']} searches)")
    broken = [table(f"{len(report.broken):,} cannot be read and are left out", ("picture", "why"), report.broken[:SHOWN])]
    data = {key: value for key, value in asdict(report).items() if key != "broken"}
    data |= {"out": str(folder), "model": model, "seconds": round(seconds, 3)}
    data["broken"] = [{"picture": where, "why": why} for where, why in report.broken]
    rest = [f"and {len(report.broken) - SHOWN:,} more"] if len(report.broken) > SHOWN else []
    out.result(data, *said, *(broken + rest if report.broken else []))
