"""What every source is after it has been recognised: a random-access sequence of samples, sorted by id."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from diptych.core.errors import DiptychError, UsageError, nearest
from diptych.core.types import Sample

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
SPLIT_NAMES = ("train", "training", "val", "valid", "validation", "dev", "test")
SPLIT_ALIASES = {"training": "train", "val": "validation", "valid": "validation", "dev": "validation"}


MAX_IMAGE_BYTES = 64 << 20
MAX_TEXT_BYTES = 1 << 20


class BrokenSample(DiptychError):
    """One sample cannot be read; a loader counts it, lists it and goes on."""

    def __init__(self, what: str, why: str, mend: str = "Mend or remove this sample") -> None:
        super().__init__(what, why, mend)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the caller says about a source instead of letting it be guessed.

    Args:
        image: column with the path or bytes of the picture; in tars its extension.
        caption: column (or columns) with captions; in tars an extension (``"txt"``) or a key of the ``json`` member.
        label: column with a class index or a class name; in tars an extension or a key of the ``json`` member.
        id: column with the sample's id; rows with an equal id are one sample with several captions.
        root: folder that image paths are relative to; naming it also allows absolute paths.
        split: which of the source's splits (``"train"``, ``"validation"``, ``"test"``).
    """

    image: str | None = None
    caption: str | tuple[str, ...] | None = None
    label: str | None = None
    id: str | None = None
    root: Path | None = None
    split: str | None = None

    def captions(self) -> tuple[str, ...] | None:
        """The caption columns that were asked for, as a tuple, or None."""
        return (self.caption,) if isinstance(self.caption, str) else self.caption

    def refuse(self, kind: str, *names: str) -> None:
        """Raise :class:`UsageError` when one of ``names`` was given to a source that has no use for it."""
        for name in names:
            if getattr(self, name) is not None:
                raise UsageError(f"{name}={getattr(self, name)!r}", f"{kind} has no use for it", f"Leave out {name}=")


class Dataset(ABC, Sequence[Sample]):
    """Samples in random access, sorted by id, so that order and resume are the same in every layout.

    Attributes:
        kind: what the path was recognised as, in words.
        path: where it lies, or the name of the embedded set.
        ids: one id a sample, sorted.
        classes: class names by label, or None.
        templates: prompt templates with ``{}`` for the class name, or None.
        columns: which column or member plays which part (``{"image": "filepath", "caption": "title"}``).
        splits: the splits that the path holds (``()`` where it has none); ``split`` is the one that was opened.
        shards: files that can be read independently of one another (tars; 1 for anything else).
        sealed: a test set that must not be trained on.
        notes: what was guessed, ignored or refused while recognising.
    """

    kind: str = ""
    path: str = ""
    ids: list[str]
    classes: tuple[str, ...] | None = None
    templates: tuple[str, ...] | None = None
    columns: dict[str, str]
    splits: tuple[str, ...] = ()
    split: str | None = None
    shards: int = 1
    sealed: bool = False
    notes: list[str]

    def __init__(self, path: str, kind: str) -> None:
        self.path, self.kind, self.ids, self.columns, self.notes = path, kind, [], {}, []

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def sample(self, index: int) -> Sample:
        """The sample at ``index`` (0 to len − 1)."""

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self.sample(index % len(self))

    def __iter__(self) -> Iterator[Sample]:
        return (self.sample(i) for i in range(len(self)))

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of one sample; sources that can, answer without reading the picture."""
        return self.sample(index).captions

    @abstractmethod
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change when the content does (paths, sizes, times of change); for caches."""

    def order(self, generator: torch.Generator) -> torch.Tensor:
        """The order of one epoch: int64 indices; every sample once."""
        return torch.randperm(len(self), generator=generator)

    def select(self, indices: Iterable[int]) -> Dataset:
        """The samples at ``indices``, in that order."""
        return Subset(self, indices)

    def describe(self) -> str:
        """One line: what was recognised, how many samples, which columns."""
        parts = [f"{self.kind}: {len(self):,} samples"]
        if self.split:
            parts.append(f"split {self.split!r} of {', '.join(self.splits)}")
        if self.shards > 1:
            parts.append(f"{self.shards} shards")
        if self.classes:
            parts.append(f"{len(self.classes):,} classes")
        if self.columns:
            parts.append(", ".join(f"{part} from {column!r}" for part, column in self.columns.items()))
        return "; ".join([*parts, *self.notes])


class Subset(Dataset):
    """Chosen samples of another dataset, in the order given."""

    def __init__(self, base: Dataset, indices: Iterable[int]) -> None:
        super().__init__(base.path, base.kind)
        self.base, self.indices = base, [int(i) for i in indices]
        if self.indices and not 0 <= min(self.indices) <= max(self.indices) < len(base):
            raise UsageError("select", f"an index lies outside 0 to {len(base) - 1}", "Give indices of this dataset")
        self.ids = [base.ids[i] for i in self.indices]
        self.classes, self.templates, self.columns = base.classes, base.templates, base.columns
        self.splits, self.split, self.shards, self.notes = base.splits, base.split, base.shards, list(base.notes)
        self.sealed = base.sealed

    def sample(self, index: int) -> Sample:
        return self.base[self.indices[index]]

    def captions(self, index: int) -> tuple[str, ...]:
        return self.base.captions(self.indices[index])

    def fingerprint(self) -> str:
        return digest([self.base.fingerprint(), *map(str, self.indices)])


def choose_split(names: list[str], overrides: Overrides, where: str) -> str:
    """The split asked for (``dev`` and ``val`` mean ``validation``); else ``train``; else the first.

    Raises:
        UsageError: the split asked for is not there.
    """
    if overrides.split is None:
        return "train" if "train" in names else sorted(names)[0]
    asked = overrides.split.lower()
    asked = asked if asked in names else SPLIT_ALIASES.get(asked, asked)
    if asked not in names:
        raise UsageError(f"split={overrides.split!r}", f"{where} has no such split", nearest(overrides.split, names))
    return asked


def digest(parts: Iterable[str]) -> str:
    """16 hexadecimal digits of the SHA-256 of ``parts``, order included."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part.encode("utf-8", "surrogateescape") + b"\0")
    return hasher.hexdigest()[:16]


def stat_line(path: Path, name: str) -> str:
    """``name``, size and time of change of a file, for fingerprints; a missing file is said to be missing."""
    try:
        stat = path.stat()
    except OSError:
        return f"{name}|missing"
    return f"{name}|{stat.st_size}|{stat.st_mtime_ns}"


def clean_id(name: str) -> str:
    """An id that is harmless as a relative path: no leading slash, no ``..``, forward slashes only."""
    if name and not any(mark in name for mark in "./\\\0"):
        return name
    parts = [part for part in name.replace("\\", "/").replace("\0", "").split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or "_"


def split_key(name: str) -> tuple[str, str]:
    """``("a/b", "seg.png")`` of ``"a/b.seg.png"``: a member's key and its lower-case extension (after the first dot)."""
    folder, slash, base = name.replace("\\", "/").rpartition("/")
    stem, _, suffix = base.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def caption_lines(text: str) -> tuple[str, ...]:
    """Captions of a ``.txt``: one a line, blank lines dropped."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def class_caption(name: str) -> str:
    """A class name as words (``"polar_bear"`` → ``"polar bear"``)."""
    return " ".join(name.replace("_", " ").replace("-", " ").split())


def as_captions(value: object) -> tuple[str, ...]:
    """Captions from a cell or JSON value: a string, a list of strings, a list of ``{"raw": …}``, or nothing."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value.strip(),) if value.strip() else ()
    if isinstance(value, dict):
        return as_captions(next((value[k] for k in ("raw", "caption", "text", "sentence") if k in value), None))
    if isinstance(value, (list, tuple)):
        return tuple(caption for item in value for caption in as_captions(item))
    return (str(value),)


def parse_json(raw: bytes | str, where: str) -> dict[str, object]:
    """A JSON object; raises :class:`BrokenSample` naming ``where`` when it is anything else."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BrokenSample(where, f"not JSON ({error})") from error
    if not isinstance(value, dict):
        raise BrokenSample(where, f"holds a {type(value).__name__}, not an object")
    return value


def read_lines(path: Path, *, blank: bool = False) -> tuple[str, ...] | None:
    """The lines of a small text file, or None when there is no such file; with ``blank`` also the empty ones before its last line."""
    if not path.is_file():
        return None
    lines = [line.strip() for line in path.read_text(encoding="utf-8").rstrip().splitlines()]
    return tuple(line for line in lines if line or blank)


def class_files(*folders: Path) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Classes and templates (``{c}`` becomes ``{}``) from the first of ``folders`` that has ``classnames.txt``.

    A class is counted by its line, and its name may be empty (CLEVR's middle distance is, in CLIP_benchmark).
    """
    for folder in folders:
        names = read_lines(folder / "classnames.txt", blank=True)
        templates = read_lines(folder / "zeroshot_classification_templates.txt")
        if names or templates:
            return names, tuple(t.replace("{c}", "{}") for t in templates) if templates else None
    return None, None


def label_and_classes(raw: Sequence[object], where: str, known: tuple[str, ...] | None) -> tuple[list[int | None], tuple[str, ...] | None]:
    """Labels as indices. Whole numbers are indices already; names are indexed alphabetically or by ``known``.

    Raises:
        UsageError: a name is not among ``known``.
    """
    cells = [None if value is None or value == "" else value for value in raw]
    if all(value is None or isinstance(value, int) or (isinstance(value, str) and value.isdigit()) for value in cells):
        return [None if value is None else int(value) for value in cells], known  # type: ignore[arg-type]
    names = [None if value is None else str(value) for value in cells]
    classes = known or tuple(sorted({name for name in names if name is not None}))
    index = {name: i for i, name in enumerate(classes)}
    for name in names:
        if name is not None and name not in index:
            raise UsageError(f"label {name!r} in {where}", "it is not in classnames.txt", "Add the class there, or remove that file")
    return [None if name is None else index[name] for name in names], classes
