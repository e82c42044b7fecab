"""Reads what a run folder holds for its report; every part besides the records may be absent."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.core.errors import DiptychError
from diptych.core.types import Record
from diptych.evaluate import details, journal, record

THUMB = re.compile(r"[0-9a-f]{16}\.webp")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The content of one folder.

    Args:
        path: where it lies.
        records: the newest of each model, set, protocol and metric.
        steps: the lines of the training log that hold a loss.
        validations: ``(step, {metric: value})`` from the same log.
        recipe: ``run.yaml`` as it stands, or "".
        sections: of ``details.json``.
        failures: what failed and was not made good since, of ``progress.jsonl``: model, set, protocol, what, why, mend.
    """

    path: Path
    records: tuple[Record, ...]
    steps: tuple[Mapping[str, Any], ...]
    validations: tuple[tuple[float, Mapping[str, float]], ...]
    recipe: str
    sections: tuple[Mapping[str, Any], ...]
    failures: tuple[Mapping[str, str], ...] = ()

    def picture(self, name: str) -> str:
        """A thumbnail as a data address.

        Raises:
            DiptychError: the name is not one that :mod:`diptych.evaluate.details` writes, or the file is missing.
        """
        path = self.path / "thumbs" / name
        if not THUMB.fullmatch(name) or not path.is_file():
            raise DiptychError(f"picture {name!r} of {self.path / 'details.json'}", "no such thumbnail", "Evaluate again into this folder")
        return "data:image/webp;base64," + base64.b64encode(path.read_bytes()).decode()


def read(folder: Path) -> RunFolder:
    """Read a folder. Raises :class:`DiptychError` where it holds neither records nor a training log, or a file is damaged."""
    records, log, sections = folder / "records.jsonl", folder / "log.jsonl", folder / "details.json"
    if not records.is_file() and not log.is_file():
        raise DiptychError(
            f"folder {folder}", "it holds neither records.jsonl nor log.jsonl", f"Make them: diptych evaluate MODEL DATA --out {folder}"
        )
    rows = _log(log) if log.is_file() else []
    recipe = folder / "run.yaml"
    return RunFolder(
        folder,
        tuple(record.latest(record.read(records))) if records.is_file() else (),
        tuple(row for row in rows if isinstance(row.get("loss"), (int, float))),
        tuple((row["step"], row["validation"]) for row in rows if isinstance(row.get("validation"), dict)),
        recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
        tuple(details.read(sections)["sets"]) if sections.is_file() else (),
        tuple(journal.failures(folder / "progress.jsonl")),
    )


def _log(path: Path) -> Sequence[dict[str, Any]]:
    """The lines of a log; a last line that a kill cut short is left out."""
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise DiptychError(f"{path} line {number}", f"not valid JSON ({error})", "Remove that line") from error
        if not isinstance(row, dict) or not isinstance(row.get("step"), (int, float)):
            raise DiptychError(f"{path} line {number}", "it names no step", "Remove that line")
        rows.append(row)
    return rows
