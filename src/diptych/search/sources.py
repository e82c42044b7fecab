"""What there is to index: pictures of one or more sources, each with what tells whether it has changed."""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diptych.data
from diptych.core.errors import DiptychError, UsageError
from diptych.core.types import Sample
from diptych.data.sources.base import MAX_IMAGE_BYTES, BrokenSample, Dataset, Overrides, digest
from diptych.data.sources.folder import FolderDataset

Stat = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture of a source.

    Args:
        source, key: where it comes from; together they are its slot.
        path: of the file, or ``SOURCE/KEY`` where it lies inside something else.
        size, time: of the file in bytes and nanoseconds, -1 where it is no file of its own.
        image: the file, or encoded bytes.
        caption, label, meta: its words; ``meta`` as JSON.
    """

    source: str
    key: str
    path: str
    size: int
    time: int
    image: bytes | Path
    caption: str | None
    label: str | None
    meta: str

    @property
    def slot(self) -> int:
        """63 bits of the SHA-256 of source and key."""
        return slot(self.source, self.key)

    @property
    def words(self) -> tuple[str | None, str | None, str]:
        """What may change without the picture changing."""
        return self.caption, self.label, self.meta

    def read(self) -> bytes:
        """The encoded bytes. Raises :class:`BrokenSample` where they cannot be read or are too many."""
        if isinstance(self.image, bytes):
            return self.image
        try:
            with self.image.open("rb") as file:
                raw = file.read(MAX_IMAGE_BYTES + 1)
        except OSError as error:
            raise BrokenSample(self.path, f"cannot be read ({error.strerror or error})") from error
        if len(raw) > MAX_IMAGE_BYTES:
            raise BrokenSample(self.path, f"more bytes than the limit of {MAX_IMAGE_BYTES:,}")
        return raw


def slot(source: str, key: str) -> int:
    """63 bits of the SHA-256 of source and key."""
    return int.from_bytes(hashlib.sha256(f"{source}\0{key}".encode("utf-8", "surrogateescape")).digest()[:8], "big") >> 1


@dataclass
class Source:
    """One folder, file or embedded set.

    Args:
        name: the absolute path, or the set's name.
        parts: one dataset a split, by the split's name ("" where there are no splits).
        notes: what was guessed while recognising.
    """

    name: str
    parts: dict[str, Dataset]
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts.values())

    def fingerprint(self) -> str:
        """Changes when the data do, as far as sizes and times tell."""
        return digest([f"{split}:{part.fingerprint()}" for split, part in self.parts.items()])

    def locate(self, position: int) -> tuple[Dataset, int, str]:
        """The dataset, the index in it and the key of the picture at ``position`` (0 to len − 1)."""
        for split, part in self.parts.items():
            if position < len(part):
                key = part.ids[position]
                return part, position, f"{split}/{key}" if split else key
            position -= len(part)
        raise IndexError(position)

    def at(self, key: str) -> Entry:
        """The picture of a key. Raises :class:`KeyError` where there is none."""
        for split, part in self.parts.items():
            name = key.removeprefix(f"{split}/") if split else key
            index = bisect.bisect_left(part.ids, name)
            if (not split or key != name) and index < len(part.ids) and part.ids[index] == name:
                return entry(self.name, key, part[index], part.classes)
        raise KeyError(key)

    def slot(self, position: int) -> int:
        """The slot of the picture at ``position``."""
        return slot(self.name, self.locate(position)[2])

    def where(self, position: int) -> str:
        """The file of the picture at ``position``, or its key where it is none, for a list of broken ones."""
        part, index, key = self.locate(position)
        with contextlib.suppress(BrokenSample):
            image = part[index].image
            key = str(image.absolute()) if isinstance(image, Path) else key
        return key.encode("utf-8", "replace").decode()

    def __getitem__(self, position: int) -> Entry:
        """One picture. Raises :class:`BrokenSample` where it is not there or its words cannot be read."""
        part, index, key = self.locate(position)
        return entry(self.name, key, part[index], part.classes)


def entry(source: str, key: str, sample: Sample, classes: tuple[str, ...] | None) -> Entry:
    """A sample as an entry. Raises :class:`BrokenSample` for a missing file or a name that is not text."""
    path, size, time = f"{source}/{key}", -1, -1
    if isinstance(sample.image, Path):
        path = str(sample.image.absolute())
        try:
            stat = sample.image.stat()
        except OSError as error:
            raise BrokenSample(path, error.strerror or "cannot be read") from error
        size, time = stat.st_size, stat.st_mtime_ns
    try:
        f"{path}{key}".encode()
    except UnicodeEncodeError as error:
        raise BrokenSample(path.encode("utf-8", "replace").decode(), "its name is not UTF-8", "Rename the file") from error
    named = classes and sample.label is not None and 0 <= sample.label < len(classes)
    label = classes[sample.label] if classes and named and sample.label is not None else None
    label = str(sample.label) if label is None and sample.label is not None else label
    return Entry(source, key, path, size, time, sample.image, next(iter(sample.captions), None), label, as_json(sample.meta))


def as_json(meta: Any) -> str:
    """Plain values of a sample's further columns as a JSON object; what is not plain is left out."""
    plain = {str(name): value for name, value in meta.items() if isinstance(value, (str, int, float, bool)) and value == value}
    return json.dumps(plain, ensure_ascii=True, sort_keys=True)


def find(path: str | Path) -> Source:
    """The source at a path, or the embedded set of that name, with all of its splits.

    A folder that holds pictures beside a table or tar that is none of pictures is a folder of pictures.

    Raises:
        UsageError: there is nothing, or nothing that can be opened.
    """
    place = Path(path)
    name = str(place.resolve()) if place.exists() else str(path)
    if place.is_file() and f".{place.suffix.lower().lstrip('.')}" in (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"):
        raise UsageError(str(path), "it is one picture", f"Give its folder: {place.parent}")
    try:
        first = diptych.data.open(path)
    except DiptychError as error:
        folder = _pictures(place)
        if folder is None:
            raise
        return Source(name, {"": folder}, [f"read as a folder of images; {error.what} is left out, since {error.why}"])
    if not first.splits:
        return Source(name, {"": first}, list(first.notes))
    parts = {split: first if split == first.split else diptych.data.open(path, split=split) for split in first.splits}
    return Source(name, parts, [note for part in parts.values() for note in part.notes])


def _pictures(place: Path) -> FolderDataset | None:
    """The folder as pictures, where there are any."""
    if not place.is_dir():
        return None
    try:
        return FolderDataset(place, Overrides())
    except UsageError:
        return None
