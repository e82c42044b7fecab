"""Building and renewing an index: only what is new or has changed is embedded; each chunk of pictures appears in one commit.

The order of work makes a kill at any moment harmless. First what needs no model: words that changed, files whose time changed but not their
content. Then chunks: files that moved take their rows over, what is left is embedded, one commit each. Last, what is gone is taken out.
Whoever goes on reads the table and does what is left: nothing is lost, and nothing embedded twice but the chunk that was under way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diptych.core.errors import DiptychError
from diptych.data.images import load_image
from diptych.data.sources.base import BrokenSample
from diptych.search.approximate import LIMIT, build_approximate
from diptych.search.background import background
from diptych.search.manifest import Manifest, check_model, device, keep_golden, locked
from diptych.search.snapshot import Snapshot
from diptych.search.sources import Entry, Source, find
from diptych.search.state import State
from diptych.search.store import Store
from diptych.towers.dual import DualEncoder
from diptych.towers.formats.load import load

CHUNK = 512


@dataclass
class Report:
    """What one run of indexing did, in pictures.

    Args:
        broken: (where, why) of pictures that cannot be read; they are not in the index.
        notes: what was guessed about the data.
        approximate: what was measured of the approximate index; None where search is exact.
    """

    added: int = 0
    changed: int = 0
    moved: int = 0
    deleted: int = 0
    renewed: int = 0
    unchanged: int = 0
    embedded: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pictures: int = 0
    approximate: dict[str, Any] | None = None

    @property
    def touched(self) -> bool:
        """Whether anything in the table is other than before."""
        return bool(self.added or self.changed or self.moved or self.deleted or self.renewed)


@dataclass
class Work:
    """One run of indexing: what it writes to and what it has found so far."""

    store: Store
    state: State
    model: DualEncoder
    report: Report
    batch: int

    def look(self, source: Source, broken: list[tuple[str, str]]) -> list[int]:
        """Mark what is there; renew words and times; give the positions of pictures that need more than that."""
        todo: list[int] = []
        renewed: list[tuple[str, Entry]] = []
        for position in range(len(source)):
            try:
                entry = source[position]
                row = self.state.find(entry)
                if row is None:
                    todo.append(position)
                    continue
                same = self.state.same_file(row, entry)
                if not same and digest(entry.read()) != self.state.value(row, "hash"):
                    todo.append(position)
                    self.state.stale_N[row] = True
                elif not (same or entry.size < 0) or not self.state.same_words(row, entry):
                    renewed.append((self.state.value(row, "id"), entry))
                else:
                    self.report.unchanged += 1
                self.state.seen_N[row] = True
            except BrokenSample as error:
                broken.append((source.where(position), error.why))
        for part in blocks(renewed, CHUNK):
            self._rewrite(part)
        self.report.renewed += len(renewed)
        return todo

    def _rewrite(self, pairs: Sequence[tuple[str, Entry]]) -> None:
        """Give rows another place or other words; vector and content stay."""
        old = self.store.get(name for name, _ in pairs)
        self.store.put([made(entry, name, old[name]["hash"], old[name]["vector"]) for name, entry in pairs if name in old])

    def embed(self, source: Source, todo: Sequence[int], broken: list[tuple[str, str]], tell: Any) -> None:
        """Bring the pictures at ``todo`` into the table, a chunk at a time."""
        for positions in blocks(todo, CHUNK):
            fresh: list[tuple[Entry, str, torch.Tensor]] = []
            moved: list[tuple[str, Entry]] = []
            copied: list[tuple[str, Entry, str]] = []
            for position in positions:
                try:
                    entry = source[position]
                    raw = entry.read()
                    content = digest(raw)
                    twins = self.state.by_content(content)
                    if not twins:
                        pixels_CHW = load_image(raw, self.model.config.preprocess, reduced=True)
                        fresh.append((entry, content, pixels_CHW))
                    elif self.state.find(entry) is None and self._free(twins[0]):
                        self.state.moved_N[twins[0]] = True
                        moved.append((self.state.value(twins[0], "id"), entry))
                    else:
                        copied.append((self.state.value(twins[0], "id"), entry, content))
                except BrokenSample as error:
                    broken.append((source.where(position), error.why))
                    self._forget(source, position)
            self._rewrite(moved)
            self.report.moved += len(moved)
            self._commit(fresh, copied)
            tell(len(positions))

    def _free(self, row: int) -> bool:
        """Whether the picture of a row is gone, so that another name may take the row over."""
        return bool(self.state.may_move_N[row] and not self.state.seen_N[row] and not self.state.moved_N[row])

    def _forget(self, source: Source, position: int) -> None:
        """A picture that cannot be read any more leaves."""
        row = self.state.at(source.slot(position))
        if row is not None:
            self.state.seen_N[row] = False

    def _commit(self, fresh: Sequence[tuple[Entry, str, torch.Tensor]], copied: Sequence[tuple[str, Entry, str]]) -> None:
        """Embed, and write new rows in one commit and changed ones in another."""
        rows = []
        if fresh:
            vectors_ND = self.model.encode_image(torch.stack([pixels for *_, pixels in fresh]), batch_size=self.batch).numpy()
            rows = [(entry, content, vector) for (entry, content, _), vector in zip(fresh, vectors_ND, strict=True)]
        known = self.store.get({name for name, *_ in copied})
        rows += [(entry, content, known[name]["vector"]) for name, entry, content in copied]
        added, changed = [], []
        for entry, content, vector in rows:
            row = self.state.find(entry)
            name = self.new_id(entry, content) if row is None else self.state.value(row, "id")
            (added if row is None else changed).append(made(entry, name, content, vector))
        self.store.add(added)
        self.store.put(changed)
        self.report.added += len(added)
        self.report.changed += len(changed)
        self.report.embedded += len(fresh)

    def new_id(self, entry: Entry, content: str) -> str:
        """16 hexadecimal digits made of place and content, that no row has."""
        for turn in range(1 << 20):
            name = digest(f"{entry.source}\0{entry.key}\0{content}\0{turn}".encode())[:16]
            if not self.state.has_id(name):
                return name
        raise AssertionError("a million ids of one picture are taken")


def digest(raw: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(raw).hexdigest()


def blocks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Parts of at most ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def made(entry: Entry, name: str, content: str, vector: Any) -> dict[str, Any]:
    """The row of an entry."""
    fields = {part: getattr(entry, part) for part in ("slot", "source", "key", "path", "size", "time", "caption", "label", "meta")}
    return {**fields, "id": name, "hash": content, "vector": vector}


def build(
    paths: str | Path | Iterable[str | Path],
    folder: str | Path,
    model: str | DualEncoder | None = None,
    *,
    re_embed: bool = False,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
    name: str | None = None,
) -> Report:
    """Make an index of one or more sources in ``folder``, or bring it up to date.

    Args:
        paths: folders of pictures, tables, tars, or names of embedded sets.
        model: a model or its name; None: the model of the index, or ``"mini"`` for a new one.
        re_embed: where the index belongs to another model, embed everything again; the old index answers until that is done.
        batch_size: pictures embedded at once.
        progress: called with (done, total) after each chunk.
        name: what a model that is given as an object is loaded by; its own name unless said otherwise.

    Raises:
        UsageError: a path that cannot be opened, or an unknown model.
        DiptychError: the index belongs to another model, is being written by another process, or cannot be written.
    """
    folder = Path(folder)
    sources = [find(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiptychError(f"index {folder}", error.strerror or "cannot be made", "Give a folder that you may write to") from error
    with locked(folder):
        old = Manifest.read(folder)
        name = name or (model if isinstance(model, str) else model.config.name if model is not None else old.model if old else "mini")
        encoder = model if isinstance(model, DualEncoder) else load(name)
        encoder.to(device())
        manifest = prepare(folder, old, name, encoder, re_embed)
        if old is not None and old.table != manifest.table:
            given = {source.name for source in sources}
            sources += [find(source) for source in old.sources if source not in given]
        return run(folder, sources, manifest, encoder, batch_size, progress or (lambda done, total: None))


def prepare(folder: Path, old: Manifest | None, name: str, model: DualEncoder, re_embed: bool) -> Manifest:
    """The manifest to work with; a new index exists, empty, from here on."""
    fresh = Manifest(name, model.fingerprint(), model.embed_dim)
    if old is not None and (old.fingerprint == fresh.fingerprint or not re_embed):
        check_model(folder, old, model)
        return old
    keep_golden(folder, fresh.table, model)
    Store(folder, fresh.table, fresh.dim)
    return fresh if old is not None else fresh.write(folder)


def run(
    folder: Path, sources: list[Source], manifest: Manifest, model: DualEncoder, batch: int, tell: Callable[[int, int], None]
) -> Report:
    """Look at every source, then embed, then take out what is gone."""
    store = Store(folder, manifest.table, manifest.dim)
    work = Work(store, State(store), model, Report(notes=[note for source in sources for note in source.notes]), batch)
    work.state.may_move_N = np.logical_or.reduce([work.state.of_source(source.name) for source in sources])
    plans: list[tuple[Source, str, list[int], list[tuple[str, str]]]] = []
    for source in sources:
        known, fingerprint = manifest.sources.get(source.name, {}), source.fingerprint()
        if known.get("fingerprint") == fingerprint:
            mine = work.state.of_source(source.name)
            work.state.seen_N |= mine
            work.report.unchanged += int(mine.sum())
            work.report.broken += [(where, why) for where, why in known["broken"]]
            continue
        broken: list[tuple[str, str]] = []
        plans.append((source, fingerprint, work.look(source, broken), broken))
    total, done = sum(len(todo) for _, _, todo, _ in plans), 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        tell(done, total)

    tell(0, total)
    for source, _, todo, broken in plans:
        work.embed(source, todo, broken, count)
    gone = work.state.gone([source.name for source, *_ in plans])
    store.delete(gone)
    work.report.deleted = len(gone)
    for source, fingerprint, _, broken in plans:
        manifest = manifest.source(source.name, fingerprint, broken)
        work.report.broken += broken
    if work.report.touched:
        store.tidy()
    snapshot = Snapshot.of(store)
    background(model, folder, manifest.table)
    manifest = replace(manifest, approximate=approximated(store, snapshot, manifest, work.report))
    manifest.write(folder)
    store.drop_others()
    work.report.approximate = manifest.approximate
    work.report.pictures = len(store)
    return work.report


def approximated(store: Store, snapshot: Snapshot, manifest: Manifest, report: Report) -> dict[str, Any] | None:
    """The measured settings of the approximate index, built where there are many rows and other ones than when it was built last."""
    if snapshot.count <= LIMIT:
        return None
    if manifest.approximate is not None and not report.touched:
        return manifest.approximate
    return build_approximate(store, snapshot)
