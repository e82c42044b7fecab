"""Parquet files and Arrow folders written by ``save_to_disk``: columns that stay on disk until a row is read."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diptych.core.errors import DiptychError, UsageError
from diptych.data.sources.base import Overrides
from diptych.data.sources.table import TableDataset

KEPT_GROUPS = 8


class ArrowColumn(Sequence[Any]):
    """A column of an Arrow table (in memory or memory-mapped), one Python value at a time."""

    def __init__(self, column: Any) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, row: Any) -> Any:
        return self._column[row].as_py()


class ParquetColumn(Sequence[Any]):
    """A large column of Parquet files, read by row group; the last few groups are kept (safe across threads)."""

    def __init__(self, files: list[Any], name: str) -> None:
        self._files, self._name, self._lock = files, name, threading.Lock()
        self._groups: list[tuple[int, int, int]] = []
        self._kept: OrderedDict[int, Any] = OrderedDict()
        start = 0
        for number, file in enumerate(files):
            for group in range(file.metadata.num_row_groups):
                self._groups.append((start, number, group))
                start += file.metadata.row_group(group).num_rows
        self._rows = start

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: Any) -> Any:
        low, high = 0, len(self._groups)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._groups[middle][0] <= row else (low, middle)
        start, number, group = self._groups[low]
        with self._lock:
            if low not in self._kept:
                self._kept[low] = self._files[number].read_row_group(group, columns=[self._name]).column(0)
                if len(self._kept) > KEPT_GROUPS:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(low)
            return self._kept[low][row - start].as_py()


def open_parquet(paths: list[Path], root: Path, overrides: Overrides) -> TableDataset:
    """One or more Parquet files with equal columns.

    Raises:
        UsageError: files whose columns differ.
        DiptychError: a file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    overrides.refuse("a single Parquet file", "split")
    try:
        files = [pq.ParquetFile(path) for path in paths]
    except (pa.ArrowInvalid, OSError) as error:
        raise DiptychError(f"{paths[0].parent}", f"not a whole Parquet file ({error})", "Write or copy it again") from error
    names = files[0].schema_arrow.names
    if any(file.schema_arrow.names != names for file in files):
        raise UsageError(str(root), "its Parquet files have different columns", "Open them one by one")
    cells: dict[str, Sequence[Any]] = {}
    for name in names:
        kind = files[0].schema_arrow.field(name).type
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_struct(kind):
            cells[name] = ParquetColumn(files, name)
        else:
            cells[name] = ArrowColumn(pa.chunked_array([c for f in files for c in f.read(columns=[name]).column(0).chunks], type=kind))
    classes = _hub_classes(files[0].schema_arrow.metadata or {})
    folder = root if root.is_dir() else root.parent
    return TableDataset(root, "Parquet table", cells, overrides, folder, paths, classes)


def _hub_classes(metadata: dict[bytes, bytes]) -> tuple[str, ...] | None:
    """Class names from the feature description that Hugging Face keeps in a schema's metadata."""
    raw = metadata.get(b"huggingface")
    return class_names(json.loads(raw).get("info", {}).get("features", {})) if raw else None


def class_names(features: dict[str, Any]) -> tuple[str, ...] | None:
    """The names of the first ``ClassLabel`` among ``features``."""
    found = (f.get("names") for f in features.values() if isinstance(f, dict) and f.get("_type") == "ClassLabel")
    return next((tuple(names) for names in found if names), None)
