"""One version of an index as searches see it: a snapshot, its crowds and its calibrations. Never changed, so threads share it freely.

Shapes: N pictures, D width, P parts of a query, H hits, M candidates, F = 3 features.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.compute as compute

from diptych.core.errors import DiptychError
from diptych.search import feedback
from diptych.search.approximate import Approximate
from diptych.search.background import Background
from diptych.search.exact import best, similarities
from diptych.search.manifest import Manifest
from diptych.search.query import Hit
from diptych.search.score import ENOUGH, Calibration, Crowd, features, together
from diptych.search.snapshot import Snapshot
from diptych.search.store import Store, quoted


@dataclass(frozen=True, slots=True)
class Parts:
    """A query's parts: kind (``"words"`` or ``"pictures"``), unit row and weight of each."""

    kinds: tuple[str, ...]
    rows_PD: np.ndarray
    weight_P: np.ndarray


@dataclass(frozen=True)
class View:
    """What is searched.

    Args:
        crowds: those a similarity is held against: background drawings, and the index's own pictures where they are enough.
        banks, calibrations: by kind of query.
        duplicate: cosine from which two pictures count as near-duplicates.
        approximate: set where LanceDB's index chooses the candidates.
    """

    snapshot: Snapshot
    crowds: list[Crowd]
    banks: Mapping[str, np.ndarray]
    calibrations: Mapping[str, Calibration]
    duplicate: float
    approximate: Approximate | None = None

    @classmethod
    def of(cls, store: Store, manifest: Manifest, background: Background, given: list[feedback.Mark]) -> View:
        """The last version of a table."""
        snapshot = Snapshot.of(store)
        crowds = [background.crowd] + ([Crowd.of(snapshot.vectors_ND)] if snapshot.count >= ENOUGH else [])
        approximate = Approximate(store, manifest.approximate) if manifest.approximate else None
        banks = {"words": background.names_MD, "pictures": background.rivals_RD}
        return cls(snapshot, crowds, banks, {}, background.duplicate, approximate).calibrated(background, given)

    def calibrated(self, background: Background, given: list[feedback.Mark]) -> View:
        """The same with the calibrations that these marks give."""
        rehearsed = {"words": background.words, "pictures": background.pictures}
        return replace(self, calibrations={kind: feedback.calibrated(value, kind, given) for kind, value in rehearsed.items()})

    def __len__(self) -> int:
        return self.snapshot.count

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: at for at, name in enumerate(self.snapshot.rows.column("id").to_pylist())}

    def position(self, id: str) -> int:
        """The row of an id. Raises :class:`DiptychError` where there is none."""
        quoted([id])
        if id not in self._positions:
            raise DiptychError(f"id {id}", "the index holds no such picture", "Use an id that a search has shown")
        return self._positions[id]

    def row(self, position: int) -> dict[str, Any]:
        """One row without its vector, ``meta`` as a mapping."""
        found = self.snapshot.row(position)
        return {**found, "meta": json.loads(found["meta"])}

    def vectors(self, at_M: np.ndarray) -> np.ndarray:
        """Unit rows (M, D), copied."""
        return np.array(self.snapshot.vectors_ND[at_M])

    def of_source(self, source: str | None) -> np.ndarray:
        """Positions of the pictures of a source, or of all."""
        if source is None:
            return np.arange(len(self))
        return np.flatnonzero(compute.equal(self.snapshot.rows.column("source"), source).to_numpy())  # type: ignore[attr-defined]

    def direction(self, parts: Parts) -> np.ndarray:
        """The unit vector (D,) that ranks: the sum of the parts, each by its weight over its deviation, so that none drowns the others.

        Words and pictures spread differently over an index (a picture is far nearer to pictures than any words are).
        """
        spread_P = self.crowds[-1].deviation(parts.rows_PD)
        sum_D = (parts.weight_P / spread_P) @ parts.rows_PD
        return (sum_D / max(float(np.linalg.norm(sum_D)), 1e-12)).astype(np.float32)

    def allowed(self, mask_N: np.ndarray | None, without: Sequence[int]) -> np.ndarray | None:
        """Positions (M,) that may be found; None: all."""
        if mask_N is None and not without:
            return None
        free_N = np.ones(len(self), dtype=bool) if mask_N is None else mask_N.copy()
        free_N[list(without)] = False
        return np.flatnonzero(free_N)

    def is_exact(self, allowed_M: np.ndarray | None) -> bool:
        """Whether every allowed picture is compared: without an approximate index, or where a filter leaves few."""
        return self.approximate is None or (allowed_M is not None and len(allowed_M) <= self.approximate.limit)

    def nearest(self, direction_D: np.ndarray, k: int, allowed_M: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Positions and cosines of the ``k`` nearest allowed pictures, nearest first."""
        if self.approximate is not None and not self.is_exact(allowed_M):
            names = self.approximate.nearest(direction_D, k if allowed_M is None else 10 * k)
            at_M = np.array([self._positions[name] for name in names if name in self._positions], dtype=np.int64)
            at_M = at_M if allowed_M is None else at_M[np.isin(at_M, allowed_M)]
            similarity_M = self.vectors(at_M) @ direction_D
            order = best(similarity_M, k)
            return at_M[order], similarity_M[order]
        similarity_M = similarities(self.snapshot.vectors_ND, direction_D, allowed_M)
        order = best(similarity_M, k)
        return (order if allowed_M is None else allowed_M[order]), similarity_M[order]

    def judged(self, parts: Parts, hit_HD: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Features (P, H, 3) and scores (P, H) of every part and hit among ``count`` pictures."""
        rows = []
        for kind, row_D in zip(parts.kinds, parts.rows_PD, strict=True):
            rows.append(features(row_D[None], hit_HD, self.crowds, self.banks[kind])[0])
        features_PHF = np.stack(rows)
        scores = [self.calibrations[kind].probability(row, count) for kind, row in zip(parts.kinds, features_PHF, strict=True)]
        return features_PHF, np.stack(scores)

    def scores(self, parts: Parts, hit_HD: np.ndarray, count: int) -> np.ndarray:
        """Scores (H,) of the whole query, 0…1."""
        return together(self.judged(parts, hit_HD, count)[1], parts.weight_P)

    def hit(self, group_G: np.ndarray, similarity: float, score: float) -> Hit:
        """A hit of the first of ``group_G``, the others standing behind it."""
        row = self.row(int(group_G[0]))
        behind = tuple(self.snapshot.rows.column("id")[int(i)].as_py() for i in group_G[1:])
        return Hit(row["id"], row["path"], score, similarity, row["caption"], row["label"], row["meta"], behind)
