"""Tables: CSV, TSV, JSON lines, Parquet; one row a picture, or several rows with one picture and several captions."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diptych.core.errors import UsageError, nearest
from diptych.core.types import Sample
from diptych.data.sources.base import (
    IMAGE_SUFFIXES,
    BrokenSample,
    Dataset,
    Overrides,
    as_captions,
    class_caption,
    class_files,
    clean_id,
    digest,
    label_and_classes,
    stat_line,
)

NAMES = {
    "image": "image image_path img img_path filepath file_path file_name filename file path image_file picture photo jpg png webp",
    "caption": "caption captions text texts title sentence sentences description alt alt_text txt prompt raw",
    "label": "label labels class class_name class_id category target cls fine_label",
    "id": "id image_id key uid uuid sample_id __key__",
}
Cells = Mapping[str, Sequence[Any]]


def read_text_table(path: Path) -> dict[str, list[Any]]:
    """The columns of a CSV or TSV (delimiter from the header line; every cell a string).

    Raises:
        UsageError: no header, or a row with more cells than the header.
    """
    csv.field_size_limit(min(sys.maxsize, 1 << 27))
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        delimiter = max("\t,;|", key=header.count) if path.suffix.lower() != ".tsv" else "\t"
        file.seek(0)
        reader = csv.reader(file, delimiter=delimiter)
        names = [name.strip() for name in next(reader, [])]
        if not names or len(set(names)) != len(names):
            raise UsageError(str(path), f"the header is {names}", "Give every column a name of its own in the first line")
        columns: list[list[str]] = [[] for _ in names]
        for row in reader:
            if len(row) > len(names):
                raise UsageError(f"{path} line {reader.line_num}", f"{len(row)} cells, the header has {len(names)}", "Quote the delimiter")
            if row:
                for i, column in enumerate(columns):
                    column.append(row[i] if i < len(row) else "")
    return dict(zip(names, columns, strict=True))


def read_json_lines(path: Path) -> dict[str, list[Any]]:
    """The columns of a JSON-lines file, None where a line lacks a key.

    Raises:
        UsageError: a line is not a JSON object.
    """
    rows: list[dict[str, Any]] = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UsageError(f"{path} line {number}", f"not JSON ({error})", "Mend or remove the line") from error
            if not isinstance(row, dict):
                raise UsageError(f"{path} line {number}", "not a JSON object", "Write one object a line")
            rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def guess_columns(cells: Cells, overrides: Overrides, where: str) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Which columns play ``image``, ``caption``, ``label``, ``id``, and notes on what was guessed by content.

    Raises:
        UsageError: an override names no column, or no column can be the image.
    """
    lower = {name.lower().strip(): name for name in cells}
    asked = {"image": overrides.image, "caption": overrides.captions(), "label": overrides.label, "id": overrides.id}
    found: dict[str, tuple[str, ...]] = {}
    notes: list[str] = []
    for part, value in asked.items():
        wanted = (value,) if isinstance(value, str) else value or ()
        for name in wanted:
            if name not in cells:
                raise UsageError(f"{part}={name!r}", f"{where} has no such column", nearest(name, cells))
        taken = {name for names in found.values() for name in names}
        named = next((lower[n] for n in NAMES[part].split() if n in lower and lower[n] not in taken), None)
        if part == "image" and named and not wanted and not _looks_like_images(cells[named]):
            named = None
        if wanted or named:
            found[part] = tuple(wanted) or (str(named),)
        elif part in ("image", "caption"):
            rest = [name for name in cells if name not in taken]
            guess = _by_content(cells, rest, part, set(f"{NAMES['label']} {NAMES['id']}".split()))
            if guess:
                found[part] = (guess,)
                notes.append(f"{part} column guessed from its content")
    if "image" not in found:
        raise UsageError(where, f"no column of {', '.join(cells)} holds image paths or bytes", "Name it with image=")
    return found, notes


def _looks_like_images(column: Sequence[Any]) -> bool:
    """Whether the first cells are paths with an image suffix, encoded bytes, or ``{"bytes": …, "path": …}``."""
    head = [column[i] for i in range(min(20, len(column)))]
    head = [cell for cell in head if cell not in (None, "")]

    def one(cell: Any) -> bool:
        if isinstance(cell, dict):
            return bool({"bytes", "path"} & set(cell))
        return isinstance(cell, bytes) or (isinstance(cell, str) and cell.lower().rpartition(".")[2] in IMAGE_SUFFIXES)

    return bool(head) and sum(map(one, head)) * 2 > len(head)


def _by_content(cells: Cells, names: list[str], part: str, other: set[str]) -> str | None:
    """The column that looks like images, or the string column with the most words a cell (two at least)."""
    if part == "image":
        return next((name for name in names if _looks_like_images(cells[name])), None)
    best: tuple[float, str | None] = (1.0, None)
    for name in names:
        head = [cells[name][i] for i in range(min(50, len(cells[name])))]
        if name.lower() not in other and head and all(isinstance(cell, str) for cell in head):
            best = max(best, (sum(len(cell.split()) for cell in head) / len(head), name), key=lambda pair: pair[0])
    return best[1]


class TableDataset(Dataset):
    """Rows of a table as samples. Rows with an equal id (or, without ids, an equal image path) are one sample.

    The id is the id column, else the image path without its suffix, else the row number.

    Args:
        cells: columns by name; the image column may be lazy (bytes are read when a sample is).
        folder: image paths are relative to it and must stay under it; absolute paths need ``root=``.
        files: what the fingerprint covers.

    Raises:
        UsageError: an empty table, or a column that cannot be found.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        cells: Cells,
        overrides: Overrides,
        folder: Path,
        files: Sequence[Path],
        classes: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(str(path), kind)
        rows = min((len(column) for column in cells.values()), default=0)
        if not rows:
            raise UsageError(str(path), "the table has no rows", "Give a table with at least one row")
        self._cells, self._files, self._free = cells, files, overrides.root is not None
        self._folder = (overrides.root or folder).resolve()
        found, notes = guess_columns(cells, overrides, path.name)
        self.columns = {part: ", ".join(names) for part, names in found.items()}
        self.notes += notes
        self._image, self._captions = found["image"][0], found.get("caption", ())
        self._rest = [name for name in cells if name not in {n for names in found.values() for n in names}]
        named, self.templates = class_files(folder)
        self.classes, self._labels = classes or named, None
        if "label" in found:
            self._labels, self.classes = label_and_classes(list(cells[found["label"][0]]), path.name, self.classes)
        if not self._captions:
            if self._labels and self.classes:
                self.columns["caption"] = "class name"
            else:
                self.notes.append("no captions")
        self.ids, self._rows = self._group(found.get("id", (None,))[0], rows)

    def _group(self, id_column: str | None, rows: int) -> tuple[list[str], list[list[int]]]:
        """Sorted ids and the rows of each."""
        names: list[str]
        if id_column is not None:
            names = [str(value) for value in self._cells[id_column]]
        elif (paths := self._paths(rows)) is not None:
            names = [os.path.splitext(path)[0] for path in paths]
            if len(set(names)) != len(set(paths)):
                names = paths
        else:
            names = [f"{row:0{len(str(rows))}d}" for row in range(rows)]
        grouped: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            grouped.setdefault(clean_id(name), []).append(row)
        ids = sorted(grouped)
        return ids, [grouped[name] for name in ids]

    def _paths(self, rows: int) -> list[str] | None:
        """The image column as paths, or None where it holds bytes."""
        column = self._cells[self._image]
        if not isinstance(column[0], str):
            return None
        return [str(column[row] or f"row-{row}") for row in range(rows)]

    def captions(self, index: int) -> tuple[str, ...]:
        rows = self._rows[index]
        found = tuple(c for row in rows for name in self._captions for c in as_captions(self._cells[name][row]))
        label = self._label(index)
        if not self._captions and label is not None and self.classes:
            return (class_caption(self.classes[label]),)
        return tuple(dict.fromkeys(found))

    def _label(self, index: int) -> int | None:
        """The label of the sample's first row; BrokenSample when it is no index of the classes."""
        label = self._labels[self._rows[index][0]] if self._labels else None
        if label is not None and self.classes and not 0 <= label < len(self.classes):
            raise BrokenSample(self.ids[index], f"its label {label} is no index of {len(self.classes)} classes")
        return label

    def _picture(self, index: int) -> bytes | Path:
        """Bytes, or a path that stays under the table's folder (or anywhere, where ``root=`` was given)."""
        cell = self._cells[self._image][self._rows[index][0]]
        if isinstance(cell, dict):
            cell = cell.get("bytes") or cell.get("path")
        if isinstance(cell, bytes):
            return cell
        if not isinstance(cell, str) or not cell:
            raise BrokenSample(self.ids[index], "its row names no image")
        if re.match(r"[a-z][a-z0-9+]+://", cell):
            raise BrokenSample(self.ids[index], f"{cell[:60]} is an address, not a file", "Download the images first")
        path = Path(os.path.normpath(self._folder / cell))
        if not self._free and not path.is_relative_to(self._folder):
            raise BrokenSample(self.ids[index], f"{cell[:60]} lies outside {self._folder}", "Allow that with root=FOLDER")
        return path

    def sample(self, index: int) -> Sample:
        label, row = self._label(index), self._rows[index][0]
        concept = self.classes[label] if label is not None and self.classes and not self._captions else None
        meta = {name: value for name in self._rest if not isinstance(value := self._cells[name][row], (bytes, dict))}
        return Sample(self.ids[index], self._picture(index), self.captions(index), label, concept, meta)

    def fingerprint(self) -> str:
        parts = [stat_line(path, path.name) for path in self._files]
        if isinstance(self._cells[self._image][0], str):
            for index in range(len(self)):
                cell = self._cells[self._image][self._rows[index][0]]
                parts.append(stat_line(self._folder / str(cell), str(cell)))
        return digest([self.kind, *self.columns.values(), *parts])


READERS: dict[str, Callable[[Path], dict[str, list[Any]]]] = {
    ".csv": read_text_table,
    ".tsv": read_text_table,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
}


def open_text_table(path: Path, overrides: Overrides) -> TableDataset:
    """A CSV, TSV or JSON-lines file as samples."""
    overrides.refuse("a single table", "split")
    kind = {".csv": "CSV table", ".tsv": "TSV table"}.get(path.suffix.lower(), "JSON lines table")
    return TableDataset(path, kind, READERS[path.suffix.lower()](path), overrides, path.parent, [path])
