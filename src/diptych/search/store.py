"""The pictures of an index in LanceDB: one table a model, every change one commit, so that a kill at any moment leaves a whole table.

A row: ``id`` (16 hexadecimal digits), ``slot`` (where the picture comes from: 63 bits of SHA-256 of source and key), ``source``, ``key``,
``path``, ``hash`` (SHA-256 of the encoded bytes), ``size`` in bytes, ``time`` (of change, nanoseconds since 1970), ``caption``, ``label``,
``meta`` (JSON object of the user's other columns), ``vector`` (unit row of D float32).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from diptych.core.errors import DiptychError

KEPT = timedelta(hours=1)  # how long a superseded version stays readable by a process that holds it
COLUMNS = ("id", "slot", "source", "key", "path", "hash", "size", "time", "caption", "label", "meta")
BLOCK = 2048


def schema(dim: int) -> pa.Schema:
    """The columns of a table of ``dim`` wide vectors."""
    text, whole = pa.string(), pa.int64()
    kinds = {"slot": whole, "size": whole, "time": whole}
    return pa.schema([*((name, kinds.get(name, text)) for name in COLUMNS), ("vector", pa.list_(pa.float32(), dim))])


def lance() -> Any:
    """The lancedb module. Raises :class:`DiptychError` with the command that installs it."""
    os.environ.setdefault("LANCE_LOG", "error")
    os.environ.setdefault("RUST_LOG", "error")
    try:
        import lancedb
    except ImportError as error:
        raise DiptychError("search", f"it needs lancedb ({error})", "Install it: pip install 'diptych[search]'") from error
    return lancedb


class Store:
    """One table.

    Args:
        folder: of the index.
        name: of the table.
        dim: make the table, of this width, where there is none; None: it must be there.
    """

    def __init__(self, folder: Path, name: str, dim: int | None = None) -> None:
        self.folder, self.name = folder, name
        self._database = lance().connect(str(folder))
        there = any((folder / f"{name}.lance" / "_versions").glob("*.manifest"))  # a process killed while making it may have left less
        if not there and dim is None:
            raise DiptychError(f"index {folder}", f"its table {name} is missing", "Build it again with: diptych index")
        with self._readable():
            if there:
                self._table = self._database.open_table(name)
            else:
                self._table = self._database.create_table(name, schema=schema(dim or 0))
        self.dim = self._table.schema.field("vector").type.list_size

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        """LanceDB's own errors as ours."""
        try:
            yield
        except (OSError, RuntimeError, ValueError, pa.ArrowException) as error:
            reason = str(error).strip().split("\n")[0][:200]
            raise DiptychError(
                f"index {self.folder}", f"LanceDB says: {reason}", "Check the disk, or build it again into another folder"
            ) from error

    def __len__(self) -> int:
        with self._readable():
            return self._table.count_rows()

    @property
    def version(self) -> int:
        """Number of the last commit."""
        with self._readable():
            self._table.checkout_latest()
            return self._table.version

    def read(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Rows in the table's order, a block at a time."""
        with self._readable():
            count = self._table.count_rows()
            if count:
                yield from self._table.search().select(list(columns)).limit(count).to_batches(BLOCK)

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """New rows, in one commit."""
        if rows:
            with self._readable():
                self._table.add(self._batch(rows))

    def put(self, rows: Sequence[dict[str, Any]]) -> None:
        """Replace the rows with these ids, in one commit."""
        if rows:
            with self._readable():
                self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(self._batch(rows))

    def get(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Whole rows by id."""
        wanted = quoted(ids)
        if not wanted:
            return {}
        with self._readable():
            found = self._table.search().where(f"id IN ({','.join(wanted)})").limit(len(wanted)).to_arrow()
        return {row["id"]: row for row in found.select([*COLUMNS, "vector"]).to_pylist()}

    def delete(self, ids: Sequence[str]) -> None:
        """Take rows out, in one commit a block."""
        for start in range(0, len(ids), BLOCK):
            with self._readable():
                self._table.delete(f"id IN ({','.join(quoted(ids[start : start + BLOCK]))})")

    def index(self) -> None:
        """Build LanceDB's approximate index over the vectors."""
        with self._readable():
            from lancedb.index import IvfRq

            self._table.create_index("vector", config=IvfRq(distance_type="dot"), replace=True)

    def nearest(self, query_D: np.ndarray, k: int, probes: int, refine: int) -> list[str]:
        """Ids of about the ``k`` nearest rows by the approximate index."""
        with self._readable():
            asked = self._table.search(query_D, vector_column_name="vector").distance_type("dot").nprobes(probes).refine_factor(refine)
            return asked.select(["id", "_distance"]).limit(k).to_arrow().column("id").to_pylist()

    def tidy(self) -> None:
        """Join small files; drop versions that nobody can hold any more."""
        with self._readable():
            self._table.optimize(cleanup_older_than=KEPT)

    def drop_others(self) -> None:
        """Remove the tables of other models."""
        for path in self.folder.glob("pictures-*.lance"):
            if path.stem != self.name:
                with self._readable():
                    self._database.drop_table(path.stem)

    def _batch(self, rows: Sequence[dict[str, Any]]) -> pa.Table:
        columns = {name: [row[name] for row in rows] for name in COLUMNS}
        flat = np.ascontiguousarray(np.stack([np.asarray(row["vector"], dtype=np.float32) for row in rows])).ravel()
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat), self.dim)
        made = schema(self.dim)
        return pa.table([*(pa.array(columns[name], made.field(name).type) for name in COLUMNS), vectors], schema=made)


def quoted(ids: Iterable[str]) -> list[str]:
    """Ids as SQL strings. They are 16 hexadecimal digits; anything else is refused before it comes near a query."""
    found = list(ids)
    for name in found:
        if len(name) != 16 or not set(name) <= set("0123456789abcdef"):
            raise DiptychError(f"id {name[:40]!r}", "it is not 16 hexadecimal digits", "Use an id that a search has shown")
    return [f"'{name}'" for name in found]
