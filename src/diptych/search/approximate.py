"""LanceDB's approximate index over many vectors, and what it misses: recall at 10 against exact search, measured when it is built.

IVF with residual quantisation (vectors in cells around centres, stored coarsely), the best candidates ranked again by their whole vectors.
``probes`` and ``refine`` are raised until the measured recall reaches the aim, or the last of :data:`EFFORTS` is reached.

Shapes: N vectors, D width, Q queries.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from diptych.core.rng import generator
from diptych.search.snapshot import Snapshot
from diptych.search.store import Store

LIMIT = 200_000
AIM = 0.95
QUERIES, TOP = 100, 10
EFFORTS = ((10, 5), (20, 10), (40, 20), (80, 20), (160, 40), (320, 40))


class Approximate:
    """The approximate index of a store.

    Args:
        settings: ``probes`` (cells that are looked at) and ``refine`` (candidates a wanted row that are ranked again), as measured.

    Attributes:
        limit: so many pictures are still compared exactly where a filter leaves no more.
    """

    limit = LIMIT

    def __init__(self, store: Store, settings: dict[str, Any]) -> None:
        self._store, self._probes, self._refine = store, int(settings["probes"]), int(settings["refine"])

    def nearest(self, query_D: np.ndarray, k: int) -> list[str]:
        """Ids of about the ``k`` nearest rows."""
        return self._store.nearest(query_D, k, self._probes, self._refine)


def build_approximate(store: Store, snapshot: Snapshot, aim: float = AIM) -> dict[str, Any]:
    """Build the index and find the least effort with which recall at 10 reaches ``aim``.

    Queries are rows of the index moved by a little noise (length 0.3), so that none is its own nearest row by identity alone.

    Returns:
        ``{"rows", "probes", "refine", "recall", "aim", "queries"}``.
    """
    store.index()
    draw = np.random.default_rng(generator(0, "recall").initial_seed())
    chosen = np.sort(draw.choice(snapshot.count, size=min(QUERIES, snapshot.count), replace=False))
    noise_QD = draw.standard_normal((len(chosen), snapshot.dim)).astype(np.float32)
    query_QD = snapshot.vectors_ND[chosen] + 0.3 * noise_QD / np.linalg.norm(noise_QD, axis=1, keepdims=True)
    query_QD /= np.linalg.norm(query_QD, axis=1, keepdims=True)
    names = snapshot.rows.column("id")
    truth = [{names[int(i)].as_py() for i in row} for row in nearest(snapshot, query_QD, TOP)]
    found: dict[str, Any] = {}
    for probes, refine in EFFORTS:
        hits = [len(wanted & set(store.nearest(query_D, TOP, probes, refine))) for query_D, wanted in zip(query_QD, truth, strict=True)]
        recall = sum(hits) / sum(map(len, truth))
        found = {"rows": snapshot.count, "probes": probes, "refine": refine, "recall": round(recall, 4), "aim": aim, "queries": len(truth)}
        if recall >= aim:
            break
    return found


def nearest(snapshot: Snapshot, query_QD: np.ndarray, k: int) -> np.ndarray:
    """Positions (Q, k) of the rows with the highest dot products, in no order; every vector is read once for all queries."""
    value_QM, at_QM = np.empty((len(query_QD), 0), dtype=np.float32), np.empty((len(query_QD), 0), dtype=np.int64)
    for start, vector_BD in snapshot.blocks():
        value_QM = np.concatenate([value_QM, query_QD @ vector_BD.T], axis=1)
        at_QM = np.concatenate([at_QM, np.broadcast_to(np.arange(start, start + len(vector_BD)), (len(query_QD), len(vector_BD)))], axis=1)
        kept = np.argpartition(-value_QM, min(k, value_QM.shape[1]) - 1, axis=1)[:, :k]
        value_QM, at_QM = np.take_along_axis(value_QM, kept, axis=1), np.take_along_axis(at_QM, kept, axis=1)
    return at_QM
