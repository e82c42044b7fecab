"""``open(path)``: recognises what a path holds and gives it as a random-access dataset."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from diptych.core.errors import UsageError
from diptych.data.sources.base import SPLIT_ALIASES, SPLIT_NAMES, Dataset, Overrides, choose_split
from diptych.data.sources.columnar import open_parquet
from diptych.data.sources.folder import FolderDataset, list_files
from diptych.data.sources.hub import is_saved_dataset, open_saved_dataset
from diptych.data.sources.shards import ShardDataset
from diptych.data.sources.table import READERS, open_text_table

TABLE_SUFFIXES = (*READERS, ".parquet")
FORMATS = "a folder of images, class folders, .csv .tsv .jsonl .parquet, .tar shards, a saved Hugging Face dataset, or an embedded set"


def open(
    path: str | Path,
    *,
    image: str | None = None,
    caption: str | Sequence[str] | None = None,
    label: str | None = None,
    id: str | None = None,
    root: str | Path | None = None,
    split: str | None = None,
) -> Dataset:
    """Recognise ``path`` and open it; ``dataset.describe()`` says as what.

    Args:
        path: a folder, a file, or the name of an embedded set (``"pictograms"``).
        image, caption, label, id: column names (tables), or extensions and JSON keys (tars), where the guess is wrong.
        root: folder that a table's image paths are relative to; it also allows absolute paths.
        split: which split, where there are several; ``train`` unless said otherwise.

    Raises:
        UsageError: no such path, nothing recognised, an empty set, or an override that names nothing (exit code 2).
        DiptychError: a damaged file.
    """
    captions = caption if caption is None or isinstance(caption, str) else tuple(caption)
    overrides = Overrides(image, captions, label, id, None if root is None else Path(root), split)
    place = Path(path)
    if not place.exists():
        return _open_named(str(path), overrides)
    if place.is_dir():
        return _open_folder(place, overrides)
    suffix = place.suffix.lower()
    if suffix in READERS:
        return open_text_table(place, overrides)
    if suffix == ".parquet":
        return open_parquet([place], place, overrides)
    if suffix == ".tar":
        overrides.refuse("a single tar", "split")
        return ShardDataset([place], overrides, place)
    if place.name.lower().endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")):
        raise UsageError(str(place), "a compressed tar cannot be read in place", "Decompress it to .tar")
    raise UsageError(str(place), f"files of type {suffix or 'unknown'} are not recognised", f"Give {FORMATS}")


def _open_named(name: str, overrides: Overrides) -> Dataset:
    """An embedded set by its name; an error names the path and the nearest set."""
    if name.startswith((".", "/", "~")) or Path(name).suffix.lower() in (*TABLE_SUFFIXES, ".tar"):
        raise UsageError(name, "no such file or folder", "Check the path")
    from diptych.data.sources.embedded import SetDataset

    return SetDataset(name, overrides)


def _open_folder(root: Path, overrides: Overrides) -> Dataset:
    """What a folder holds, from the most telling sign to the least."""
    if is_saved_dataset(root):
        return open_saved_dataset(root, overrides)
    if splits := _split_folders(root):
        split = choose_split(list(splits), overrides, str(root))
        dataset = _open_folder(splits[split], replace(overrides, split=None))
        dataset.split, dataset.splits = split, tuple(sorted(splits))
        return dataset
    files = list_files(root)
    of = {suffix: [root / name for name, s in files if f".{s}" == suffix] for suffix in (".tar", *TABLE_SUFFIXES)}
    if of[".tar"]:
        return _by_split(of[".tar"], root, overrides, lambda paths, rest: ShardDataset(paths, rest, root))
    if of[".parquet"]:
        return _by_split(of[".parquet"], root, overrides, lambda paths, rest: open_parquet(paths, root, rest))
    tables = [path for suffix in READERS for path in of[suffix] if path.parent == root]
    if tables:
        return _by_split(tables, root, overrides, _one_table)
    overrides.refuse("a folder of images", "split")
    if not files:
        raise UsageError(str(root), "the folder is empty", f"Give {FORMATS}")
    return FolderDataset(root, overrides, files)


def _by_split(paths: list[Path], root: Path, overrides: Overrides, build: Callable[[list[Path], Overrides], Dataset]) -> Dataset:
    """Files named by split (``train.csv``, ``test-00000-of-00002.parquet``, ``dev_3.tar``), where all are named so."""
    splits: dict[str, list[Path]] = {}
    for path in paths:
        match = re.match(rf"({'|'.join(SPLIT_NAMES)})(?=[-_.])", path.name.lower())
        if match is None:
            overrides.refuse(f"{root.name}, whose files are not named by split,", "split")
            return build(paths, overrides)
        splits.setdefault(SPLIT_ALIASES.get(match[1], match[1]), []).append(path)
    split = choose_split(list(splits), overrides, str(root))
    dataset = build(splits[split], replace(overrides, split=None))
    dataset.split, dataset.splits = split, tuple(sorted(splits))
    return dataset


def _one_table(paths: list[Path], overrides: Overrides) -> Dataset:
    """The only table of a folder."""
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        raise UsageError(str(paths[0].parent), f"it holds several tables ({names})", "Give the path of one of them")
    return open_text_table(paths[0], overrides)


def _split_folders(root: Path) -> dict[str, Path]:
    """Folders named as splits (``train``, ``val``, ``test`` …), where the folder holds no other folder."""
    folders = [entry for entry in sorted(root.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    if not folders or any(entry.name.lower() not in SPLIT_NAMES for entry in folders):
        return {}
    return {SPLIT_ALIASES.get(entry.name.lower(), entry.name.lower()): entry for entry in folders}


class _Callable(ModuleType):
    """Lets ``diptych.data.open(path)`` work although ``diptych.data.open`` is also this module's name."""

    def __call__(self, path: str | Path, **overrides: Any) -> Dataset:
        return open(path, **overrides)


sys.modules[__name__].__class__ = _Callable
__all__ = ["Dataset", "open"]
