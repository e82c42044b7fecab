"""A Hugging Face dataset on the local disk (the folder that ``save_to_disk`` writes), read with pyarrow alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from diptych.core.errors import DiptychError, UsageError
from diptych.data.sources.base import Overrides, choose_split
from diptych.data.sources.columnar import ArrowColumn, class_names
from diptych.data.sources.table import TableDataset


def is_saved_dataset(root: Path) -> bool:
    """Whether ``root`` was written by ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk``."""
    return (root / "dataset_dict.json").is_file() or ((root / "state.json").is_file() and (root / "dataset_info.json").is_file())


def open_saved_dataset(root: Path, overrides: Overrides) -> TableDataset:
    """The Arrow files of ``root``, memory-mapped; nothing is copied until a row is read.

    Raises:
        UsageError: an unknown split, an index mapping that was not flattened, or no Arrow file.
        DiptychError: a damaged file.
    """
    import pyarrow as pa

    if (root / "dataset_dict.json").is_file():
        splits = [str(name) for name in json.loads((root / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]]
        if not splits:
            raise UsageError(str(root), "dataset_dict.json names no split", "Save the dataset again")
        split = choose_split(splits, overrides, str(root))
        dataset = _open_one(root / Path(split).name, root, replace(overrides, split=None), pa)
        dataset.split, dataset.splits = split, tuple(sorted(splits))
        return dataset
    overrides.refuse("a saved dataset without splits", "split")
    return _open_one(root, root, overrides, pa)


def _open_one(folder: Path, root: Path, overrides: Overrides, pa: Any) -> TableDataset:
    """One split: its Arrow stream files in the order that ``state.json`` gives."""
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    if state.get("_indices_files"):
        raise UsageError(str(folder), "it was saved with an index mapping", "Save it again after dataset.flatten_indices()")
    files = [folder / Path(entry["filename"]).name for entry in state.get("_data_files", [])]
    if not files:
        raise UsageError(str(folder), "state.json names no Arrow file", "Save the dataset again")
    try:
        tables = [pa.ipc.open_stream(pa.memory_map(str(file))).read_all() for file in files]
    except (pa.ArrowInvalid, OSError) as error:
        raise DiptychError(str(folder), f"an Arrow file cannot be read ({error})", "Copy or save the dataset again") from error
    table = pa.concat_tables(tables)
    info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    cells = {name: ArrowColumn(table.column(name)) for name in table.column_names}
    return TableDataset(root, "saved Hugging Face dataset", cells, overrides, folder, files, class_names(info.get("features") or {}))
