"""An index that answers: words and pictures in, pictures with scores out.

    index = Index.open("my-index")
    answer = index.search(Query.of("a red apple"), k=20)

Shapes: N pictures, D width of the joint space, P parts of a query, H hits, M candidates.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diptych.core.errors import DiptychError, UsageError
from diptych.data.images import load_image
from diptych.data.sources.base import BrokenSample
from diptych.search import feedback
from diptych.search.background import background, vocabulary
from diptych.search.build import Report, build
from diptych.search.manifest import Manifest, check_model, device
from diptych.search.query import Answer, Query
from diptych.search.similar import Cluster, clusters, diversified, duplicates, grouped
from diptych.search.sources import Source, find
from diptych.search.store import Store
from diptych.search.view import Parts, View
from diptych.search.where import Filter
from diptych.towers.dual import DualEncoder
from diptych.towers.encode import pixels
from diptych.towers.formats.load import load

GOOD = 0.5
POOL = 4


class Index:
    """Pictures that can be searched; made by :meth:`open` or :meth:`build`. Every method is safe to call from several threads.

    Attributes:
        folder: where it lies.
        model: whose joint space it lives in.
        manifest: model, sources and settings as stored.
    """

    def __init__(self, folder: Path, manifest: Manifest, model: DualEncoder) -> None:
        self.folder, self.manifest, self.model = folder, manifest, model
        self._background = background(model, folder, manifest.table)
        self._store = Store(folder, manifest.table)
        self._marks = folder / "feedback.jsonl"
        self._seen = self._state(manifest)
        self._view = View.of(self._store, manifest, self._background, feedback.read(self._marks))
        self._sources: dict[str, Source] = {}
        self._lock = threading.Lock()

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
        return len(self._view)

    def refresh(self) -> bool:
        """Take over what has been written since by another process; whether there was anything.

        Raises:
            DiptychError: the index now belongs to another model.
        """
        manifest = Manifest.read(self.folder)
        if manifest is None or manifest.fingerprint != self.manifest.fingerprint:
            raise DiptychError(f"index {self.folder}", "it was built again with another model, or is gone", "Open it again")
        with self._lock:
            state = self._state(manifest)
            if state == self._seen:
                return False
            fresh = View.of(self._store, manifest, self._background, feedback.read(self._marks))
            changed = fresh.snapshot.path != self._view.snapshot.path
            self.manifest, self._view, self._sources, self._seen = manifest, fresh, {}, state
        return changed

    def _state(self, manifest: Manifest) -> tuple[Any, ...]:
        """What a view depends on: settings, the table's last version, and the file of marks."""
        marks = self._marks.stat() if self._marks.exists() else None
        return manifest, self._store.version, None if marks is None else (marks.st_size, marks.st_mtime_ns)

    def ids(self) -> list[str]:
        """The id of every picture, in the order of the table."""
        return self._view.snapshot.rows.column("id").to_pylist()

    def row(self, id: str) -> dict[str, Any]:
        """What is stored of a picture beside its vector: path, source, key, size, time, caption, label and meta (a mapping).

        Raises:
            DiptychError: the index holds no such id.
        """
        return self._view.row(self._view.position(id))

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
        with self._lock:
            source = self._sources.get(row["source"]) or self._sources.setdefault(row["source"], find(row["source"]))
        try:
            return source.at(row["key"]).read()
        except (KeyError, BrokenSample) as error:
            raise gone from error

    def encode(self, query: Query) -> np.ndarray:
        """Unit rows (W + I, D) of a query's words, then of its pictures, float32: what :meth:`search` takes as ``rows``.

        Words that the corpus knows in another language are asked in English (see :mod:`diptych.search.dictionary`).

        Raises:
            BrokenImage: a picture cannot be decoded.
        """
        parts = [np.empty((0, self.manifest.dim), dtype=np.float32)]
        if query.words:
            parts.append(self.model.encode_text(query.texts()).numpy())
        if query.images:
            parts.append(self.model.encode_image(torch.stack([self.pixels(image) for image, _ in query.images])).numpy())
        return np.concatenate(parts)

    def pixels(self, image: Any) -> torch.Tensor:
        """A query's picture as uint8 (3, H, W) at the model's size, read as the index reads its own."""
        preprocess = self.model.config.preprocess
        return load_image(image, preprocess, reduced=True) if isinstance(image, (str, Path, bytes)) else pixels(image, preprocess)

    def search(
        self,
        query: Query,
        k: int = 20,
        where: str | None = None,
        diverse: float = 0.0,
        group_duplicates: bool = True,
        rows: np.ndarray | None = None,
    ) -> Answer:
        """The best ``k`` pictures for a query.

        Args:
            where: a filter over the pictures' columns, such as ``"year > 2020"`` (see :mod:`diptych.search.where`).
            diverse: 0 to 1: how much a picture that resembles a better one is put back (see :func:`~diptych.search.similar.diversified`).
            group_duplicates: near-duplicates stand behind the best of them instead of beside it.
            rows: what :meth:`encode` gives for this query, where that has been done already.

        Raises:
            UsageError: ``k``, ``diverse`` or the filter is off.
            DiptychError: an id that the index does not hold, or a picture that cannot be decoded.
        """
        if k < 1:
            raise UsageError(f"k={k}", "at least one picture must be asked for", "Give 1 or more")
        if not 0.0 <= diverse <= 1.0:
            raise UsageError(f"diverse={diverse}", "it lies outside 0 to 1", "0 keeps the order by similarity")
        view = self._view
        mask_N = None if where is None else Filter(where).mask(view.snapshot.rows)
        parts = self._parts(view, query, rows)
        direction_D = view.direction(parts)
        allowed_M = view.allowed(mask_N, [view.position(name) for name, _ in query.like])
        searched = len(view) if allowed_M is None else len(allowed_M)
        pool = k * POOL if group_duplicates or diverse else k
        while True:
            at_M, similarity_M = view.nearest(direction_D, pool, allowed_M)
            vectors_MD = view.vectors(at_M)
            groups = grouped(vectors_MD, view.duplicate) if group_duplicates else [[i] for i in range(len(at_M))]
            if len(groups) >= min(k * (POOL if diverse else 1), searched) or len(at_M) >= searched or pool > 64 * k * POOL:
                break
            pool *= 4
        heads = [group[0] for group in groups]
        order = diversified(similarity_M[heads], vectors_MD[heads], k, diverse) if diverse else list(range(len(heads)))[:k]
        score_H = view.scores(parts, vectors_MD[[heads[i] for i in order]], searched)
        hits = [view.hit(at_M[groups[i]], float(similarity_M[heads[i]]), float(score)) for i, score in zip(order, score_H, strict=True)]
        return Answer(any(hit.score >= GOOD for hit in hits), tuple(hits), searched, view.is_exact(allowed_M))

    def _parts(self, view: View, query: Query, rows: np.ndarray | None) -> Parts:
        """The query's parts with their unit rows: words, pictures, pictures of the index."""
        given = self.encode(query) if rows is None else np.asarray(rows, dtype=np.float32)
        wanted = (len(query.words) + len(query.images), self.manifest.dim)
        if given.shape != wanted:
            raise UsageError(
                f"rows of shape {given.shape}", f"this query has rows of shape {wanted}", "Pass what Index.encode gives for it"
            )
        liked = view.vectors(np.array([view.position(name) for name, _ in query.like], dtype=np.int64))
        kinds = ["words"] * len(query.words) + ["pictures"] * (len(query.images) + len(query.like))
        weights = [weight for _, weight in (*query.words, *query.images, *query.like)]
        return Parts(tuple(kinds), np.concatenate([given, liked]), np.array(weights))

    def feedback(self, query: Query, id: str, right: bool, rows: np.ndarray | None = None) -> None:
        """Take in that a found picture is right or wrong for a query; scores are calibrated by it from now on, here and at every opening.

        Raises:
            DiptychError: the index holds no such id, or its folder cannot be written.
        """
        view = self._view
        parts = self._parts(view, query, rows)
        hit_1D = view.vectors(np.array([view.position(id)]))
        features_PF, score_P = view.judged(parts, hit_1D, len(view))
        shifts = [view.calibrations[kind].shift(len(view)) for kind in parts.kinds]
        given = feedback.marks(list(parts.kinds), features_PF[:, 0], score_P[:, 0], parts.weight_P, shifts, right)
        with self._lock:
            feedback.add(self._marks, given, id)
            self._view = self._view.calibrated(self._background, feedback.read(self._marks))

    def duplicates(self, threshold: float | None = None, source: str | None = None) -> list[list[str]]:
        """Groups of ids of near-duplicates, of two and more; the first of each is the one that the table holds first.

        Args:
            threshold: cosine from which two pictures count as one; None: the index's own (see :attr:`View.duplicate`).
            source: only among the pictures of this source.
        """
        view = self._view
        chosen_M = view.of_source(source)
        groups = duplicates(view.vectors(chosen_M), view.duplicate if threshold is None else threshold)
        names = view.snapshot.rows.column("id")
        return [[names[int(chosen_M[i])].as_py() for i in group] for group in groups]

    def clusters(self, count: int, ids: Sequence[str] | None = None) -> list[Cluster]:
        """Groups of like pictures, named by words, the largest first.

        Args:
            count: how many groups at most.
            ids: only these pictures; None: all.
        """
        view = self._view
        at_M = np.arange(len(view)) if ids is None else np.array([view.position(name) for name in ids], dtype=np.int64)
        return clusters(view.snapshot.rows, view.vectors(at_M), at_M, count, self._background.vocabulary_VD, vocabulary())
