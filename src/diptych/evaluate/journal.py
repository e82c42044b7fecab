"""What an output folder knows to be done: one line a model, set and protocol, so that a stopped evaluation goes on.

A line's key is the hash of everything that decides the numbers: weights of the model and of the baseline, samples, classes, prompts, the
protocol's own source, seed, resamples. ``progress.jsonl`` holds the key and the records; the records are in ``records.jsonl`` before.
Failures are lines of the same file, for the report; one that is followed by records of its model, set and protocol counts no more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.core.errors import DiptychError
from diptych.core.types import Record
from diptych.evaluate import record as record_file
from diptych.evaluate.material import hash_of

if TYPE_CHECKING:
    from diptych.evaluate.measure import Subject


class Journal:
    """Finds and keeps finished protocols.

    Args:
        out: the output folder; None keeps nothing.
        subjects: the model, and the baseline where there is one.
        again: forget what is kept.
    """

    def __init__(self, out: Path | None, subjects: Sequence[Subject], again: bool = False) -> None:
        self.out = out
        self.who = [text for subject in subjects for text in (subject.name, subject.model.fingerprint())] if out is not None else []
        self.path = None if out is None else out / "progress.jsonl"
        self._done = {} if again or self.path is None else _read(self.path)

    def key(self, parts: Iterable[str]) -> str:
        """The key of one protocol on one set."""
        return hash_of([*self.who, *parts])

    def find(self, key: str) -> list[Record] | None:
        """The records that are kept under ``key``; they are put into ``records.jsonl`` again where that was removed."""
        rows = self._done.get(key)
        if rows is None or self.out is None:
            return None
        found = [Record(**{**row, "interval": (row["interval"][0], row["interval"][1])}) for row in rows]
        path = self.out / "records.jsonl"
        kept = {(r.model, r.set, r.protocol, r.metric): r for r in record_file.read(path)} if path.exists() else {}
        missing = [one for one in found if kept.get((one.model, one.set, one.protocol, one.metric)) != one]
        if missing:
            record_file.append(missing, path)
        return found

    def keep(self, key: str, records: Sequence[Record]) -> None:
        """Append ``records`` to ``records.jsonl`` and then note that they are done."""
        if self.out is None or self.path is None:
            return
        record_file.append(records, self.out / "records.jsonl")
        self._append({"key": key, "records": [record.as_dict() for record in records]})

    def failed(self, name: str, protocol: str, error: DiptychError) -> None:
        """Note that ``protocol`` ("": reading it) failed on the set called ``name``, and why."""
        if self.out is not None and self.path is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            row = {"model": self.who[0], "set": name, "protocol": protocol, "what": error.what, "why": error.why, "mend": error.mend}
            self._append({"failed": row})

    def _append(self, row: dict[str, Any]) -> None:
        assert self.path is not None
        line = json.dumps(row, ensure_ascii=False) + "\n"
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DiptychError(
                f"progress {self.path}", error.strerror or str(error), "Free some space or give a folder that you may write to"
            ) from error


def failures(path: Path) -> list[dict[str, str]]:
    """The failures in a ``progress.jsonl`` that no later records of the same model, set and protocol made good, in order."""
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else ():
        try:
            row = json.loads(line)
            for one in row.get("records", ()):
                found.pop((one["model"], one["set"], one["protocol"]), None)
                found.pop((one["model"], one["set"], ""), None)
            if "failed" in row:
                one = {name: str(row["failed"][name]) for name in ("model", "set", "protocol", "what", "why", "mend")}
                found[one["model"], one["set"], one["protocol"]] = one
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return list(found.values())


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The lines of the file by key; a line that a crash cut short is as if it were not there."""
    found = {}
    for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else ():
        try:
            row = json.loads(line)
            found[row["key"]] = row["records"]
        except (ValueError, TypeError, KeyError):
            continue
    return found
