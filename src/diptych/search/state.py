"""What a table already holds, in a form that stays small at millions of rows: sorted numbers and Arrow columns, no object a row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute

from diptych.search.sources import Entry
from diptych.search.store import Store

READ = ("id", "slot", "source", "hash", "size", "time", "caption", "label", "meta")


class State:
    """Rows of a table by slot, by content and by id.

    Attributes:
        seen_N: rows whose picture has been met in this run.
        moved_N: rows that a file of another name has taken over.
        stale_N: rows whose picture has changed, so that their vector says nothing about what they are found by.
        may_move_N: rows of sources that are looked at in this run; others count as being there.
    """

    def __init__(self, store: Store) -> None:
        batches = list(store.read(READ))
        self.rows = pa.Table.from_batches(batches) if batches else None
        count = self.rows.num_rows if self.rows is not None else 0
        self.seen_N, self.moved_N = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
        self.may_move_N, self.stale_N = np.ones(count, dtype=bool), np.zeros(count, dtype=bool)
        self._slot = Sorted(self._column("slot"))
        self._hash = Sorted([number(value) for value in self._column("hash")])
        self._id = Sorted([number(value) for value in self._column("id")])

    def __len__(self) -> int:
        return len(self.seen_N)

    def _column(self, name: str) -> list:
        return self.rows.column(name).to_pylist() if self.rows is not None else []

    def value(self, row: int, name: str):
        """One cell."""
        assert self.rows is not None
        return self.rows.column(name)[row].as_py()

    def find(self, entry: Entry) -> int | None:
        """The row of an entry's slot."""
        return self.at(entry.slot)

    def at(self, slot: int) -> int | None:
        """The row of a slot."""
        return next(iter(self._slot.find(slot)), None)

    def same_file(self, row: int, entry: Entry) -> bool:
        """Whether size and time say that the file has not changed."""
        return entry.size >= 0 and (self.value(row, "size"), self.value(row, "time")) == (entry.size, entry.time)

    def same_words(self, row: int, entry: Entry) -> bool:
        """Whether caption, label and further columns are as stored."""
        return tuple(self.value(row, name) for name in ("caption", "label", "meta")) == entry.words

    def by_content(self, digest: str) -> list[int]:
        """Rows with this content, those whose picture is gone first."""
        rows = [row for row in self._hash.find(number(digest)) if self.value(row, "hash") == digest and not self.stale_N[row]]
        return sorted(rows, key=lambda row: bool(self.seen_N[row] or self.moved_N[row] or not self.may_move_N[row]))

    def has_id(self, name: str) -> bool:
        """Whether a row has this id."""
        return any(self.value(row, "id") == name for row in self._id.find(number(name)))

    def of_source(self, source: str) -> np.ndarray:
        """Which rows (N,) come from a source."""
        if self.rows is None:
            return np.zeros(0, dtype=bool)
        return np.asarray(compute.equal(self.rows.column("source"), source).to_numpy(), dtype=bool)  # type: ignore[attr-defined]

    def gone(self, sources: list[str]) -> list[str]:
        """Ids of rows of these sources that were neither met nor moved."""
        missing = np.zeros(len(self), dtype=bool)
        for source in sources:
            missing |= self.of_source(source)
        return [self.value(int(row), "id") for row in np.flatnonzero(missing & ~self.seen_N & ~self.moved_N)]


class Sorted:
    """Rows by a whole number, by bisection."""

    def __init__(self, values: list[int]) -> None:
        every = np.asarray(values, dtype=np.int64)
        self._order = np.argsort(every, kind="stable")
        self._values = every[self._order]

    def find(self, value: int) -> list[int]:
        """Rows with this value, in order."""
        low, high = np.searchsorted(self._values, value, "left"), np.searchsorted(self._values, value, "right")
        return [int(row) for row in self._order[low:high]]


def number(digits: str) -> int:
    """The first 60 bits of a hexadecimal text."""
    return int(digits[:15], 16)
