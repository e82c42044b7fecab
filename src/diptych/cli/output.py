"""Where a verb's words go: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from diptych.core.errors import DiptychError

PIPED_WIDTH = 160  # of tables that go to a file or another program


class Output:
    """One verb's output. While it is open, what libraries print goes to standard error, so that JSON stays clean.

    Args:
        as_json: print the result as JSON rather than for reading.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.log = Console(stderr=True, highlight=False)
        self._stdout: TextIO = sys.stdout

    def __enter__(self) -> Output:
        self._stdout = sys.stdout
        self._redirect = redirect_stdout(sys.stderr)
        self._redirect.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._redirect.__exit__(*error)

    @property
    def terminal(self) -> bool:
        """Whether the result goes to a terminal, which can show pictures."""
        return self._stdout.isatty()

    @property
    def width(self) -> int:
        """Columns of the terminal; those of tables that go elsewhere."""
        return Console(file=self._stdout).width if self.terminal else PIPED_WIDTH

    def say(self, text: str) -> None:
        """A line for the reader, on standard error; markup is not interpreted."""
        self.log.print(escape(text), soft_wrap=True)

    def result(self, data: Any, *shown: Any) -> None:
        """The verb's answer: ``data`` as JSON under ``--json``, else ``shown`` (text or rich tables) line by line."""
        if self.as_json:
            self._stdout.write(json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n")
        else:
            console = Console(file=self._stdout, highlight=False, width=self.width)
            for item in shown:
                console.print(escape(item) if isinstance(item, str) else item, soft_wrap=isinstance(item, str))
        self._stdout.flush()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A plain table; columns named with a leading ``>`` are right-aligned."""
    made = Table(title=escape(title) or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    for row in rows:
        made.add_row(*(escape(str(cell)) for cell in row))
    return made


def records_table(records: Sequence[dict[str, Any]], title: str = "") -> Table:
    """Records beside their intervals and chance levels; those of a part of a set are left to the report."""
    records = [r for r in records if "[" not in r["metric"]]
    rows = [
        (
            r["set"],
            r["metric"],
            f"{r['value']:.3f}",
            f"{r['interval'][0]:.3f}–{r['interval'][1]:.3f}",
            "" if r["chance"] is None else f"{r['chance']:.3f}",
            r["n"],
        )
        for r in records
    ]
    return table(title, ("set", "metric", ">value", ">95 % interval", ">chance", ">n"), rows)


def show_error(error: DiptychError, as_json: bool) -> None:
    """One line on standard error: what, why, how to mend it; the stable JSON form with ``--json``."""
    text = json.dumps(error.as_dict(), ensure_ascii=False) if as_json else "error: " + " ".join(str(error).split())
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def output_folder(path: Path, fallback: str) -> Path:
    """``path`` as a folder that can be written. Raises :class:`DiptychError` when it is a file or cannot be made."""
    if path.exists() and not path.is_dir():
        raise DiptychError(f"output {path}", "a file of that name exists", f"Give another folder, for example --out {fallback}")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiptychError(f"output {path}", error.strerror or str(error), "Give a folder that you may write to") from error
    return path
