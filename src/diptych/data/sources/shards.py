"""Webdataset tars: samples are runs of members with one key (``KEY.jpg``, ``KEY.txt``, ``KEY.json``, ``KEY.cls``).

A header scan finds every member's offset once; pictures are then read from the tar in place, so order, shuffling and
resume are exact. Nothing is ever extracted: links, devices and sparse members are refused, and names are only ids.
"""

from __future__ import annotations

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
from diptych.data.sources.tar import scan

PARTS = ("image", "txt", "json", "cls")
CAPTION_KEYS = ("captions", "caption", "text")


class ShardDataset(Dataset):
    """Samples of one or more tars, sorted by id (the key; ``SHARD/key`` where shards repeat keys).

    Captions: ``.txt`` (one a line), else ``captions``/``caption``/``text`` of ``.json``; with ``.cls`` and
    ``classnames.txt`` the class name. ``image=`` names an extension; ``caption=`` and ``label=`` an extension or JSON key.

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
        rows: list[tuple[str, list[int]]] = []
        extensions: Counter[str] = Counter()
        refused = pictureless = 0
        for number, path in enumerate(self.tars):
            members, bad = scan(path)
            refused += bad
            grouped: dict[str, list[int]] = {}
            for key, extension, offset, size in members:
                extensions[extension] += 1
                part = self._part_of(extension)
                if part is not None and key:
                    row = grouped.setdefault(key, [number] + [-1, 0] * len(PARTS))
                    at = 1 + 2 * PARTS.index(part)
                    if row[at] < 0:
                        row[at : at + 2] = offset, size
            whole = [(key, row) for key, row in grouped.items() if row[1] >= 0]
            pictureless += len(grouped) - len(whole)
            rows += whole
        if not rows:
            self._explain_empty(extensions)
        if refused:
            self.notes.append(f"{refused:,} links, devices or sparse members refused")
        if pictureless:
            self.notes.append(f"{pictureless:,} keys without an image left out")
        return self._sorted(rows)

    def _explain_empty(self, extensions: Counter[str]) -> None:
        """No sample: say which extensions the tars do hold."""
        held = ", ".join(f".{name} ({count})" for name, count in extensions.most_common(6)) or "nothing"
        if self._overrides.image:
            raise UsageError(f"image={self._overrides.image!r}", f"the tars hold {held}", nearest(self._overrides.image, extensions))
        raise UsageError(self.path, f"no member is an image; the tars hold {held}", "Name the image's extension with image=")

    def _sorted(self, rows: list[tuple[str, list[int]]]) -> tuple[list[str], np.ndarray]:
        """Ids made harmless and unique, with their rows, sorted."""
        if len({clean_id(key) for key, _ in rows}) != len(rows):
            rows = [(f"{self.tars[row[0]].stem}/{key}", row) for key, row in rows]
        named = sorted((clean_id(key), row) for key, row in rows)
        ids = [key for key, _ in named]
        if len(set(ids)) != len(ids):
            ids = [f"{key}~{row[0]}-{row[1]}" for key, row in named]
            self.notes.append("keys repeat; ids carry shard and offset")
        return ids, np.array([row for _, row in named], dtype=np.int64)

    def _check_keys(self) -> None:
        """Fill ``columns``; an override that names neither an extension nor a JSON key of the first sample is an error."""
        has = {part: bool((self._where[:, 1 + 2 * i] >= 0).any()) for i, part in enumerate(PARTS)}
        keys: set[str] = set()
        if has["json"]:
            first = int(np.flatnonzero(self._where[:, 5] >= 0)[0])
            keys = set(self._json(first))
        for part, asked in (("caption", self._overrides.captions()), ("label", self._overrides.label)):
            for name in (asked,) if isinstance(asked, str) else asked or ():
                if not (name in PARTS and has[name]) and name not in keys:
                    known = keys | {p for p in PARTS if has[p] and p != "image"}
                    raise UsageError(f"{part}={name!r}", "the tars have neither such a member nor such a json key", nearest(name, known))
        self.columns["image"] = self._overrides.image or "image member"
        words = ".txt" if has["txt"] else next((f"json:{key}" for key in CAPTION_KEYS if key in keys), None)
        words = words or ("class name" if has["cls"] and self.classes else None)
        if asked := self._overrides.captions():
            words = ", ".join(asked)
        if words:
            self.columns["caption"] = words
        else:
            self.notes.append("no captions")
        if self._overrides.label or has["cls"]:
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
        return captions, label, {key: value for key, value in meta.items() if key not in used}

    def _label(self, index: int, meta: dict[str, object]) -> int | None:
        """The class index from ``.cls`` or a JSON key; BrokenSample when it is no index of ``classes``."""
        key = self._overrides.label
        raw = self._bytes(index, "cls") if key in (None, "cls") else meta.get(key)
        if raw is None:
            return None
        text = raw.decode("ascii", "replace").strip() if isinstance(raw, bytes) else str(raw).strip()
        if self.classes and text in self.classes:
            return self.classes.index(text)
        if not text.isdigit() or (self.classes and int(text) >= len(self.classes)):
            raise BrokenSample(self.ids[index], f"its label {text[:40]!r} is no index of a class")
        return int(text)

    def captions(self, index: int) -> tuple[str, ...]:
        return self._words(index)[0]

    def sample(self, index: int) -> Sample:
        captions, label, meta = self._words(index)
        concept = self.classes[label] if label is not None and self.classes and self.columns.get("caption") == "class name" else None
        return Sample(self.ids[index], self._bytes(index, "image") or b"", captions, label, concept, meta)

    def fingerprint(self) -> str:
        return digest([self.kind, *(stat_line(path, path.name) for path in self.tars), *self.ids])
