"""A folder of images: with ``.txt`` or ``.json`` beside them, or in one folder a class."""

from __future__ import annotations

import os
from pathlib import Path

from diptych.core.errors import UsageError, nearest
from diptych.core.types import Sample
from diptych.data.sources.base import (
    IMAGE_SUFFIXES,
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
    stat_line,
)


def list_files(root: Path) -> list[tuple[str, str]]:
    """``(relative name, suffix)`` of every file under ``root``, hidden ones left out, links to folders not followed."""
    found: list[tuple[str, str]] = []
    stack = [""]
    while stack:
        prefix = stack.pop()
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                if entry.name.startswith((".", "__MACOSX")):
                    continue
                name = f"{prefix}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    stack.append(f"{name}/")
                else:
                    found.append((name, os.path.splitext(entry.name)[1].lower().lstrip(".")))
    return sorted(found)


class FolderDataset(Dataset):
    """Images under one folder, recursively; the id is the path below the folder without its suffix.

    Captions come from ``NAME.txt`` (one a line) or ``NAME.json`` (``captions``/``caption``/``text``). Where no picture has
    such a file and the pictures lie in two or more folders, each top folder is a class: its name gives label, concept
    and caption.

    Raises:
        UsageError: no image in the folder, or an override names a key that no ``.json`` has.
    """

    def __init__(self, root: Path, overrides: Overrides, files: list[tuple[str, str]] | None = None) -> None:
        overrides.refuse("a folder of images", "image", "label", "id", "root")
        super().__init__(str(root), "folder of images")
        self.root = root
        files = list_files(root) if files is None else files
        suffix_of = dict(files)
        images = [name for name, suffix in files if suffix in IMAGE_SUFFIXES]
        if not images:
            raise UsageError(str(root), "there is no image in this folder", f"Put {', '.join(IMAGE_SUFFIXES[:4])} files there")
        stems = [os.path.splitext(name)[0] for name in images]
        twice = len(set(stems)) != len(stems)
        rows = sorted((clean_id(name if twice else stem), name, stem) for name, stem in zip(images, stems, strict=True))
        self.ids, self._names, self._stems = [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]
        self._txt = {stem for stem in self._stems if f"{stem}.txt" in suffix_of}
        self._json = {stem for stem in self._stems if f"{stem}.json" in suffix_of}
        self._key = overrides.captions()
        self._labels: list[int] | None = None
        if self._txt or self._json:
            self._recognise_captions()
        else:
            self._recognise_classes()

    def _recognise_captions(self) -> None:
        """Say how many pictures have words; check the caption key against the first ``.json``."""
        kinds = [kind for kind, stems in ((".txt", self._txt), (".json", self._json)) if stems]
        self.kind = f"folder of images with {' and '.join(kinds)} beside them"
        self.columns = {"caption": self._key[0] if self._key else kinds[0]}
        without = sum(stem not in self._txt and stem not in self._json for stem in self._stems)
        if without:
            self.notes.append(f"{without:,} images have no words beside them")
        self.classes, self.templates = class_files(self.root)
        if self._key and self._key != ("txt",):
            if not self._json:
                raise UsageError(f"caption={self._key[0]!r}", "the images have no .json beside them", "Leave out caption=")
            first = parse_json((self.root / f"{min(self._json)}.json").read_bytes(), min(self._json))
            if not any(key in first for key in self._key):
                raise UsageError(f"caption={self._key[0]!r}", f"{min(self._json)}.json has no such key", nearest(self._key[0], first))

    def _recognise_classes(self) -> None:
        """One folder a class, where there are at least two folders."""
        if self._key:
            raise UsageError(f"caption={self._key[0]!r}", "the images have no .txt or .json beside them", "Leave out caption=")
        tops = [name.partition("/")[0] if "/" in name else "" for name in self._names]
        known, self.templates = class_files(self.root)
        names = sorted(set(tops))
        if "" in names or len(names) < 2:
            self.notes.append("no captions: neither .txt or .json beside the images nor one folder a class")
            return
        self.kind, self.classes = "class folders", tuple(names)
        self.columns = {"label": "folder name", "caption": "class name"}
        if known and len(known) == len(names):
            self.classes = known
            self.notes.append("class names from classnames.txt, in the order of the folders' names")
        index = {name: i for i, name in enumerate(names)}
        self._labels = [index[top] for top in tops]

    def captions(self, index: int) -> tuple[str, ...]:
        if self._labels is not None and self.classes:
            return (class_caption(self.classes[self._labels[index]]),)
        return self._words(index)[0]

    def _words(self, index: int) -> tuple[tuple[str, ...], dict[str, object]]:
        """Captions and meta of one sample from the files beside it."""
        stem = self._stems[index]
        captions: tuple[str, ...] = ()
        meta: dict[str, object] = {}
        if stem in self._json:
            meta = parse_json(self._read(f"{stem}.json"), f"{stem}.json")
            used = self._key or ("captions", "caption", "text")
            captions = next((found for key in used if (found := as_captions(meta.get(key)))), ())
            meta = {key: value for key, value in meta.items() if key not in used}
        if stem in self._txt and (self._key is None or self._key == ("txt",)):
            captions = caption_lines(self._read(f"{stem}.txt").decode("utf-8", "replace")) or captions
        return captions, meta

    def _read(self, name: str) -> bytes:
        """A small file beside an image; :class:`BrokenSample` when it is not small."""
        with (self.root / name).open("rb") as file:
            raw = file.read(MAX_TEXT_BYTES + 1)
        if len(raw) > MAX_TEXT_BYTES:
            raise BrokenSample(name, f"larger than {MAX_TEXT_BYTES:,} bytes")
        return raw

    def sample(self, index: int) -> Sample:
        image = self.root / self._names[index]
        if self._labels is not None and self.classes:
            label = self._labels[index]
            name = self.classes[label]
            return Sample(self.ids[index], image, (class_caption(name),), label, name)
        captions, meta = self._words(index)
        return Sample(self.ids[index], image, captions, meta=meta)

    def fingerprint(self) -> str:
        def lines() -> list[str]:
            found = []
            for name, stem in zip(self._names, self._stems, strict=True):
                found.append(stat_line(self.root / name, name))
                found += [stat_line(self.root / f"{stem}.txt", "txt")] if stem in self._txt else []
                found += [stat_line(self.root / f"{stem}.json", "json")] if stem in self._json else []
            return found

        return digest([self.kind, *lines()])
