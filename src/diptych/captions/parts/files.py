"""Reads a file of rewrites: JSON lines or tab-separated, keyed by the sample's id or by the caption."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from diptych.core.errors import UsageError

KEYS = ("id", "caption")


def read_rewrites(file: str | Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Rewrites by caption, and by id. The format is told in ``docs/captions.md``.

    Raises:
        UsageError: no such file, another kind of file, a line that is not in the format, or no rewrite at all.
    """
    path = Path(file)
    readers = {".jsonl": _json_lines, ".tsv": _tab_separated}
    if path.suffix.lower() not in readers:
        raise UsageError(f"rewrites {path}", f"files of type {path.suffix or 'unknown'} are not read", "Give a .jsonl or .tsv file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"rewrites {path}", error.strerror or str(error), "Check the path") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"rewrites {path}", f"it is not UTF-8 at byte {error.start}", "Save it as UTF-8") from error
    found: dict[str, dict[str, list[str]]] = {key: {} for key in KEYS}
    for key, value, rewrites in readers[path.suffix.lower()](path, text):
        found[key].setdefault(value, []).extend(rewrites)
    if not any(found.values()):
        raise UsageError(f"rewrites {path}", "it holds no rewrite", "Give a file with at least one line")
    return found["caption"], found["id"]


def _wrong(path: Path, number: int, why: str, mend: str) -> UsageError:
    return UsageError(f"rewrites {path}, line {number}", why, mend)


def _json_lines(path: Path, text: str) -> Iterator[tuple[str, str, list[str]]]:
    """``{"id" or "caption": KEY, "rewrites": [TEXT, …]}`` on each line."""
    mend = 'Write {"id": "…", "rewrites": ["…"]} or {"caption": "…", "rewrites": ["…"]}'
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise _wrong(path, number, f"it is no JSON ({error})", mend) from error
        keys = [key for key in KEYS if isinstance(row, dict) and key in row]
        if len(keys) != 1 or not isinstance(row[keys[0]], str):
            raise _wrong(path, number, "it needs one key, a string 'id' or a string 'caption'", mend)
        rewrites = row.get("rewrites")
        if not isinstance(rewrites, list) or not rewrites or not all(isinstance(r, str) and r.strip() for r in rewrites):
            raise _wrong(path, number, "'rewrites' is no list of texts", mend)
        yield keys[0], row[keys[0]], rewrites


def _tab_separated(path: Path, text: str) -> Iterator[tuple[str, str, list[str]]]:
    """A header that begins with ``id`` or ``caption``, then a key and one or more rewrites a line; a key may come again."""
    lines = [line.rstrip("\r") for line in text.split("\n")]
    key = lines[0].split("\t")[0].strip()
    if key not in KEYS:
        raise _wrong(path, 1, f"the first column is {key!r}", "Begin with a header line: id, tab, rewrite; or caption, tab, rewrite")
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        value, *rewrites = line.split("\t")
        rewrites = [rewrite for rewrite in rewrites if rewrite.strip()]
        if not rewrites:
            raise _wrong(path, number, "no rewrite follows the key", "Separate key and rewrites by tabs")
        yield key, value, rewrites
