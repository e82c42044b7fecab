"""What a run tells while it runs: one JSON line a logged step, and one line on the screen."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

Event = Mapping[str, Any]
PLAIN_EVERY = 15.0  # seconds between lines where standard error is no terminal


class Log:
    """``log.jsonl`` of a run folder. ``resume_at`` drops the lines after that step, which the resumed run writes again."""

    def __init__(self, path: Path, resume_at: int) -> None:
        self.path = path
        self.history: list[dict[str, Any]] = []
        if path.exists():
            self.history = [row for row in _rows(path) if row["step"] <= resume_at]
        path.write_text("".join(json.dumps(row) + "\n" for row in self.history), encoding="utf-8")

    def append(self, row: dict[str, Any]) -> None:
        """Add one line."""
        self.history.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _rows(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; a last line cut short by a kill is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def time_left(seconds: float | None) -> str:
    """``"3:07"`` or ``"1:02:10"``; a dash where it is not known."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Screen:
    """A progress bar on a terminal; elsewhere a plain line every 15 seconds. Both go to standard error."""

    def __init__(self, name: str, shown: bool) -> None:
        self.name, self.shown, self._last = name, shown, 0.0
        self._bar: Progress | None = None
        if shown and sys.stderr.isatty():
            columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}% {task.fields[line]}")
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(name, total=1.0, line="")

    def __enter__(self) -> Screen:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, row: Event, progress: float, left: float | None) -> None:
        """One logged step: loss against chance, images a second, time left."""
        beside = "" if row["chance"] is None else f" (chance {row['chance']:.3f})"
        line = f"loss {row['loss']:.3f}{beside}  {row['images_per_s']:,.0f} images/s  {time_left(left)} left"
        if self._bar:
            self._bar.update(self._task, completed=progress, line=line)
        elif self.shown and (time.monotonic() - self._last >= PLAIN_EVERY or progress >= 1.0):
            self._last = time.monotonic()
            print(f"{self.name}: step {row['step']:,} ({progress:.0%})  {line}", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """A line of its own."""
        if self._bar:
            self._bar.console.print(text, highlight=False)
        elif self.shown:
            print(f"{self.name}: {text}", file=sys.stderr, flush=True)


Listener = Callable[[Event], None]
