"""Records as JSON lines: one line a number, appended whole or not at all."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from diptych.core.errors import DiptychError
from diptych.core.types import Record

logger = logging.getLogger("diptych")


def append(records: Iterable[Record], path: Path) -> None:
    """Add ``records`` to the file in one write and flush it to the disk.

    A line that a crash left unfinished at the end of the file is closed first, so that it cannot swallow the new ones.

    Raises:
        ValueError: a value is not finite.
        DiptychError: the file cannot be written.
    """
    lines = "".join(json.dumps(record.as_dict(), ensure_ascii=False, allow_nan=False) + "\n" for record in records)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            if file.tell() and _last_byte(path) != b"\n":
                lines = "\n" + lines
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DiptychError(
            f"records {path}", error.strerror or str(error), "Free some space or give a folder that you may write to"
        ) from error


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)


def read(path: Path) -> list[Record]:
    """All records of the file, oldest first; a last line cut short by a crash is left out with a warning in the log.

    Raises:
        DiptychError: there is no such file, or a line is not a record.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise DiptychError(f"records {path}", "no such file", "Make it: diptych evaluate MODEL DATA --out FOLDER") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            found.append(Record(**{**row, "interval": (row["interval"][0], row["interval"][1])}))
        except (ValueError, TypeError, KeyError, IndexError) as error:
            if isinstance(error, json.JSONDecodeError) and (number == len(lines) or not line.rstrip().endswith("}")):
                logger.warning("%s line %d was cut short; it is left out", path, number)
                continue
            raise DiptychError(
                f"{path} line {number}", f"not a record ({error})", "Remove that line, or evaluate again into a new folder"
            ) from error
    return found


def latest(records: Iterable[Record]) -> list[Record]:
    """The newest record of each (model, set, protocol, metric), in order of first appearance."""
    kept: dict[tuple[str, str, str, str], Record] = {}
    for record in records:
        kept[record.model, record.set, record.protocol, record.metric] = record
    return list(kept.values())
