"""Webdataset tars: samples are runs of members with one key (``KEY.jpg``, ``.txt``, ``.json``, ``.cls``, ``.npy``).

A header scan finds every member's offset once; pictures are then read from the tar in place, so order, shuffling and
resume are exact. Nothing is ever extracted: links, devices and sparse members are refused, and names are only ids.
"""

from __future__ import annotations

from array import array
from collections import Counter
from pathlib import Path

import numpy as np

from diptych.core.errors import UsageError, nearest
from diptych.core.types import Sample
from diptych.data.sources.base import (
    IMAGE_SUFFIXES,
    MAX_IMAGE_BYTES,
    MAX_TEXT_BYTES,
    BrokenSample,
    Dataset,
    Overrides,
    as_captions,
    caption_lines,
    class_caption,
    class_files,
    clean_id,
    digest,
    parse_json,
    read_lines,
    stat_line,
)
from diptych.data.sources.npy import npy_numbers
from diptych.data.sources.tar import Member, scan

PARTS = ("image", "txt", "json", "cls", "npy")
CAPTION_KEYS = ("captions", "caption", "text")


class ShardDataset(Dataset):
    """Samples of one or more tars, sorted by id (the key; ``SHARD/key`` where shards repeat keys).

    Captions: ``.txt`` (one a line), else ``captions``/``caption``/``text`` of ``.json``; with ``.cls`` and
    ``classnames.txt`` the class name. Numbers of a ``.npy`` become ``meta["npy"]``, a list.
    ``image=`` names an extension; ``caption=`` and ``label=`` an extension or JSON key.

    Raises:
        UsageError: no sample with an image, ``nshards.txt`` disagrees, or an override names nothing that is there.
        DiptychError: a shard is damaged.
    """

    def __init__(self, tars: list[Path], overrides: Overrides, root: Path) -> None:
        overrides.refuse("a set of tars", "id", "root")
        super().__init__(str(root), "webdataset tars")
        self.tars, self.shards, self._overrides = tars, len(tars), overrides
        self._check_count(root)
        self.classes, self.templates = class_files(root, root.parent)
        self.ids, self._where = self._index()
        self._caption_keys = overrides.captions() or CAPTION_KEYS
        if self.classes or (self._where[:, 7] >= 0).any():
            self.kind = "webdataset tars with classes"
        self._check_keys()
        self._fill_columns()

    def _check_count(self, root: Path) -> None:
        """``nshards.txt`` says how many tars there must be."""
        told = read_lines(root / "nshards.txt") if root.is_dir() else None
        if told and told[0].isdigit() and int(told[0]) != len(self.tars):
            raise UsageError(str(root), f"nshards.txt says {told[0]} tars and {len(self.tars)} are there", "Fetch the missing tars")

    def _part_of(self, extension: str) -> str | None:
        """Which part of a sample an extension is, or None."""
        wanted = self._overrides.image
        if (extension == wanted) if wanted else (extension in IMAGE_SUFFIXES):
            return "image"
        return extension if extension in PARTS else None

    def _index(self) -> tuple[list[str], np.ndarray]:
        """Sorted ids and, by row: shard, then offset and size of image, txt, json, cls (offset −1 where absent)."""
        keys: list[str] = []
        tables: list[np.ndarray] = []
        extensions: Counter[str] = Counter()
        refused = pictureless = 0
        for number, path in enumerate(self.tars):
            members, bad = scan(path)
            extensions.update(extension for _, extension, _, _ in members)
            names, table = self._group(number, members)
            whole = table[:, 1] >= 0
            refused, pictureless = refused + bad, pictureless + int((~whole).sum())
            keys += [name for name, kept in zip(names, whole.tolist(), strict=True) if kept]
            tables.append(table[whole])
            if number == 0 and len(tables[0]):
                self.ids, self._where = keys, tables[0]
                self._check_keys()
        if not keys:
            self._explain_empty(extensions)
        if refused:
            self.notes.append(f"{refused:,} links, devices or sparse members refused")
        if pictureless:
            self.notes.append(f"{pictureless:,} keys without an image left out")
        return self._sorted(keys, np.concatenate(tables))

    def _group(self, number: int, members: list[Member]) -> tuple[list[str], np.ndarray]:
        """Members of one tar by key: the keys and a row each; the first member of a part counts."""
        fresh = [number] + [-1, 0] * len(PARTS)
        place: dict[str, int] = {}
        flat = array("q")
        column = {extension: 1 + 2 * PARTS.index(part) for extension in {m[1] for m in members} if (part := self._part_of(extension))}
        for key, extension, offset, size in members:
            at = column.get(extension)
            if at is None or not key:
                continue
            row = place.get(key)
            if row is None:
                row = place[key] = len(flat)
                flat.extend(fresh)
            if flat[row + at] < 0:
                flat[row + at], flat[row + at + 1] = offset, size
        return list(place), np.frombuffer(flat, dtype=np.int64).reshape(-1, len(fresh)) if flat else np.empty((0, len(fresh)), np.int64)

    def _explain_empty(self, extensions: Counter[str]) -> None:
        """No sample: say which extensions the tars do hold."""
        held = ", ".join(f".{name} ({count})" for name, count in extensions.most_common(6)) or "nothing"
        if self._overrides.image:
            raise UsageError(f"image={self._overrides.image!r}", f"the tars hold {held}", nearest(self._overrides.image, extensions))
        raise UsageError(self.path, f"no member is an image; the tars hold {held}", "Name the image's extension with image=")

    def _sorted(self, keys: list[str], table: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Ids made harmless and unique, with their rows, sorted."""
        ids = [clean_id(key) for key in keys]
        if len(set(ids)) != len(ids):
            ids = [clean_id(f"{self.tars[shard].stem}/{key}") for key, shard in zip(keys, table[:, 0].tolist(), strict=True)]
        if len(set(ids)) != len(ids):
            ids = [f"{name}~{row[0]}-{row[1]}" for name, row in zip(ids, table.tolist(), strict=True)]
            self.notes.append("keys repeat; ids carry shard and offset")
        order = sorted(range(len(ids)), key=ids.__getitem__)
        return [ids[i] for i in order], table[order]

    def _known(self) -> tuple[set[str], set[str]]:
        """The text parts that some sample has, and the keys of the first readable ``.json``."""
        has = {part for i, part in enumerate(PARTS) if i and bool((self._where[:, 1 + 2 * i] >= 0).any())}
        for index in np.flatnonzero(self._where[:, 5] >= 0)[:20].tolist():
            try:
                return has, set(self._json(index))
            except BrokenSample:
                continue
        return has, set()

    def _check_keys(self) -> None:
        """An override that names neither an extension nor a JSON key is an error.

        Checked on the first tar alone, so that a wrong key costs no scan of the rest, and again on all of them.
        """
        has, keys = self._known()
        label = self._overrides.label
        for part, asked in (("caption", self._overrides.captions() or ()), ("label", (label,) if label else ())):
            for name in asked:
                if name not in has | keys:
                    why = "the tars have neither such a member nor such a json key"
                    raise UsageError(f"{part}={name!r}", why, nearest(name, has | keys))

    def _fill_columns(self) -> None:
        """Say where image, caption and label come from."""
        has, keys = self._known()
        self.columns["image"] = self._overrides.image or "image member"
        words = ".txt" if "txt" in has else next((f"json:{key}" for key in CAPTION_KEYS if key in keys), None)
        words = words or ("class name" if "cls" in has and self.classes else None)
        if asked := self._overrides.captions():
            words = ", ".join(asked)
        if words:
            self.columns["caption"] = words
        else:
            self.notes.append("no captions")
        if self._overrides.label or "cls" in has:
            self.columns["label"] = self._overrides.label or ".cls"

    def _bytes(self, index: int, part: str) -> bytes | None:
        """One member's bytes, or None; :class:`BrokenSample` when the member is too large."""
        at = 1 + 2 * PARTS.index(part)
        shard, offset, size = int(self._where[index, 0]), int(self._where[index, at]), int(self._where[index, at + 1])
        if offset < 0:
            return None
        if size > (limit := MAX_IMAGE_BYTES if part == "image" else MAX_TEXT_BYTES):
            raise BrokenSample(f"{self.ids[index]} ({part})", f"larger than {limit:,} bytes")
        with self.tars[shard].open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def _json(self, index: int) -> dict[str, object]:
        raw = self._bytes(index, "json")
        return parse_json(raw, f"{self.ids[index]}.json") if raw else {}

    def _words(self, index: int) -> tuple[tuple[str, ...], int | None, dict[str, object]]:
        """Captions, label and meta of one sample, without reading its picture."""
        meta, asked = self._json(index), self._overrides.captions()
        captions: tuple[str, ...] = ()
        if (asked is None or "txt" in asked) and (text := self._bytes(index, "txt")) is not None:
            captions = caption_lines(text.decode("utf-8", "replace"))
        if asked:
            captions += tuple(c for key in asked if key != "txt" for c in as_captions(meta.get(key)))
        elif not captions:
            captions = next((found for key in CAPTION_KEYS if (found := as_captions(meta.get(key)))), ())
        label = self._label(index, meta)
        if not captions and label is not None and self.classes:
            captions = (class_caption(self.classes[label]),)
        used = {*self._caption_keys, self._overrides.label}
        meta = {key: value for key, value in meta.items() if key not in used}
        if raw := self._bytes(index, "npy"):
            meta["npy"] = npy_numbers(raw, f"{self.ids[index]}.npy")
        return captions, label, meta

    def _label(self, index: int, meta: dict[str, object]) -> int | None:
        """The class index from ``.cls`` or a JSON key; BrokenSample when it is no index of ``classes``."""
        key = self._overrides.label
        raw = self._bytes(index, "cls") if key in (None, "cls") else meta.get(key)
        if raw is None:
            return None
        text = raw.decode("ascii", "replace").strip() if isinstance(raw, bytes) else str(raw).strip()
        if text.isdigit() and (not self.classes or int(text) < len(self.classes)):
            return int(text)  # before the names, which may be numbers themselves ("0", "20", "40" degrees)
        if self.classes and text in self.classes:
            return self.classes.index(text)
        raise BrokenSample(self.ids[index], f"its label {text[:40]!r} is no index of a class")

    def captions(self, index: int) -> tuple[str, ...]:
        return self._words(index)[0]

    def sample(self, index: int) -> Sample:
        captions, label, meta = self._words(index)
        concept = self.classes[label] if label is not None and self.classes and self.columns.get("caption") == "class name" else None
        return Sample(self.ids[index], self._bytes(index, "image") or b"", captions, label, concept, meta)

    def fingerprint(self) -> str:
        return digest([self.kind, *(stat_line(path, path.name) for path in self.tars), *self.ids])
