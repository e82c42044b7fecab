"""An index that answers: words and pictures in, pictures with scores out.

    index = Index.open("my-index")
    answer = index.search(Query.of("a red apple"), k=20)

Shapes: N pictures, D width of the joint space.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from diptych.core.errors import DiptychError, UsageError
from diptych.data.images import load_image
from diptych.data.sources.base import BrokenSample
from diptych.search.build import Report, build
from diptych.search.exact import best, similarities
from diptych.search.manifest import Manifest, check_model, device
from diptych.search.query import Answer, Hit, Query
from diptych.search.similar import diversified, grouped
from diptych.search.snapshot import Snapshot
from diptych.search.sources import Source, find
from diptych.search.store import Store, quoted
from diptych.towers.dual import DualEncoder
from diptych.towers.encode import pixels
from diptych.towers.formats.load import load

GOOD = 0.5
POOL = 4


class Index:
    """Pictures that can be searched; made by :meth:`open` or :meth:`build`. Searching is safe from several threads.

    Attributes:
        folder: where it lies.
        model: whose joint space it lives in.
        manifest: model, sources and settings as stored.
    """

    def __init__(self, folder: Path, manifest: Manifest, model: DualEncoder) -> None:
        self.folder, self.manifest, self.model = folder, manifest, model
        self._store = Store(folder, manifest.table)
        self._snapshot = Snapshot.of(self._store)
        self._sources: dict[str, Source] = {}
        self._at: dict[str, int] | None = None

    @classmethod
    def open(cls, folder: str | Path, model: str | DualEncoder | None = None) -> Index:
        """The index in a folder.

        Args:
            model: the model or its name; None loads the one that the index names.

        Raises:
            DiptychError: there is no index, it is damaged, or its vectors are those of another model.
        """
        folder = Path(folder)
        manifest = Manifest.read(folder)
        if manifest is None:
            raise DiptychError(f"index {folder}", "there is no index in this folder", f"Build one with: diptych index PATH --out {folder}")
        encoder = model if isinstance(model, DualEncoder) else load(model or manifest.model)
        check_model(folder, manifest, encoder)
        return cls(folder, manifest, encoder.to(device()))

    @classmethod
    def build(
        cls,
        paths: str | Path | Iterable[str | Path],
        folder: str | Path,
        model: str | DualEncoder | None = None,
        *,
        re_embed: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[Index, Report]:
        """Make or renew the index in ``folder`` (see :func:`diptych.search.build.build`) and open it."""
        report = build(paths, folder, model, re_embed=re_embed, progress=progress)
        return cls.open(folder, model), report

    def __len__(self) -> int:
        return self._snapshot.count

    def refresh(self) -> bool:
        """Take over what another process has written since; whether there was anything.

        Raises:
            DiptychError: the index now belongs to another model.
        """
        manifest = Manifest.read(self.folder)
        if manifest is None or manifest.fingerprint != self.manifest.fingerprint:
            raise DiptychError(f"index {self.folder}", "it was built again with another model, or is gone", "Open it again")
        fresh = Snapshot.of(self._store)
        if fresh.path == self._snapshot.path:
            return False
        self.manifest, self._snapshot, self._at = manifest, fresh, None
        self._sources = {}
        return True

    def ids(self) -> list[str]:
        """The id of every picture, in the order of the table."""
        return self._snapshot.rows.column("id").to_pylist()

    def row(self, id: str) -> dict[str, Any]:
        """What is stored of a picture beside its vector: path, source, key, size, time, caption, label and meta (a mapping).

        Raises:
            DiptychError: the index holds no such id.
        """
        found = self._snapshot.row(self._position(id))
        return {**found, "meta": json.loads(found["meta"])}

    def _position(self, id: str) -> int:
        quoted([id])
        if self._at is None:
            self._at = {name: at for at, name in enumerate(self.ids())}
        if id not in self._at:
            raise DiptychError(f"id {id}", "the index holds no such picture", "Use an id that a search has shown")
        return self._at[id]

    def picture(self, id: str) -> bytes | Path:
        """The picture of an id: its file, or its encoded bytes where it lies inside a tar, a table or an embedded set.

        Only what the index holds comes out; a path is never taken from the caller.

        Raises:
            DiptychError: no such id, or the file is gone or another one than was indexed.
        """
        row = self.row(id)
        gone = DiptychError(f"picture {id}", f"{row['path']} is gone or has changed since it was indexed", "Run diptych index again")
        if row["size"] >= 0:
            path = Path(row["path"])
            try:
                stat = path.stat()
            except OSError as error:
                raise gone from error
            if (stat.st_size, stat.st_mtime_ns) != (row["size"], row["time"]):
                raise gone
            return path
        source = self._sources.get(row["source"]) or self._sources.setdefault(row["source"], find(row["source"]))
        try:
            return source.at(row["key"]).read()
        except (KeyError, BrokenSample) as error:
            raise gone from error

    def vector(self, query: Query) -> np.ndarray:
        """The unit vector (D,) of a query: the weighted sum of its parts' unit vectors, float32.

        Raises:
            BrokenImage: a picture cannot be decoded.
            DiptychError: an id that the index does not hold.
        """
        parts = [torch.from_numpy(self._snapshot.vectors_ND[self._position(name)].copy()) * weight for name, weight in query.like]
        if query.words:
            rows = self.model.encode_text([text for text, _ in query.words])
            parts += [row * weight for row, (_, weight) in zip(rows, query.words, strict=True)]
        if query.images:
            prepared = torch.stack([self._pixels(image) for image, _ in query.images])
            rows = self.model.encode_image(prepared)
            parts += [row * weight for row, (_, weight) in zip(rows, query.images, strict=True)]
        return F.normalize(torch.stack(parts).sum(0), dim=0).numpy()

    def _pixels(self, image: Any) -> torch.Tensor:
        """A query's picture, read as the index reads its own."""
        preprocess = self.model.config.preprocess
        return load_image(image, preprocess, reduced=True) if isinstance(image, (str, Path, bytes)) else pixels(image, preprocess)

    def search(self, query: Query, k: int = 20, where: str | None = None, diverse: float = 0.0, group_duplicates: bool = True) -> Answer:
        """The best ``k`` pictures for a query.

        Args:
            where: a filter over the pictures' columns, such as ``"year > 2020"`` (see :mod:`diptych.search.where`).
            diverse: 0 to 1: how much a picture that resembles a better one is put back (see :func:`~diptych.search.similar.diversified`).
            group_duplicates: near-duplicates stand behind the best of them instead of beside it.

        Raises:
            UsageError: ``k``, ``diverse`` or the filter is off.
            DiptychError: an id that the index does not hold, or a picture that cannot be decoded.
        """
        return self.search_vector(self.vector(query), k, where, diverse, group_duplicates, without=[name for name, _ in query.like])

    def search_vector(
        self,
        vector_D: np.ndarray,
        k: int = 20,
        where: str | None = None,
        diverse: float = 0.0,
        group_duplicates: bool = True,
        without: Iterable[str] = (),
    ) -> Answer:
        """:meth:`search` for who has the query's unit vector already, leaving out the pictures with the ids ``without``."""
        if k < 1:
            raise UsageError(f"k={k}", "at least one picture must be asked for", "Give 1 or more")
        if not 0.0 <= diverse <= 1.0:
            raise UsageError(f"diverse={diverse}", "it lies outside 0 to 1", "0 keeps the order by similarity")
        if where is not None:
            raise UsageError("where", "filters come later", "Leave it out")
        snapshot = self._snapshot
        similarity_N = similarities(snapshot.vectors_ND, vector_D)
        for name in without:
            similarity_N[self._position(name)] = -np.inf
        at = best(similarity_N, k * POOL)
        at = at[np.isfinite(similarity_N[at])]
        groups = grouped(np.asarray(snapshot.vectors_ND[at])) if group_duplicates else [[i] for i in range(len(at))]
        heads = [group[0] for group in groups]
        order = (
            diversified(similarity_N[at[heads]], np.asarray(snapshot.vectors_ND[at[heads]]), k, diverse) if diverse else range(len(heads))
        )
        hits = [self._hit(at[groups[i]], similarity_N) for i in list(order)[:k]]
        return Answer(bool(hits) and max(hit.score for hit in hits) >= GOOD, tuple(hits), len(self))

    def _hit(self, group: np.ndarray, similarity_N: np.ndarray) -> Hit:
        row = self._snapshot.row(int(group[0]))
        similarity = float(similarity_N[group[0]])
        behind = tuple(self._snapshot.rows.column("id")[int(i)].as_py() for i in group[1:])
        score = float(1 / (1 + np.exp(-(similarity - 0.25) * 20)))
        return Hit(row["id"], row["path"], score, similarity, row["caption"], row["label"], json.loads(row["meta"]), behind)
