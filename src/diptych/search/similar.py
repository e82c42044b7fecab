"""Pictures that are alike: near-duplicates behind one another, and answers that differ from one another.

Shapes: N pictures, D width; rows are unit vectors, best first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from diptych.core.rng import generator
from diptych.objectives.parts.kmeans import kmeans, nearest

DUPLICATE = 0.97
BLOCK = 512
STEPS = 25
STARTS, MANY = 8, 20_000


def grouped(rows_ND: np.ndarray, threshold: float = DUPLICATE) -> list[list[int]]:
    """Groups of positions: each row joins the first group whose first row has at least ``threshold`` cosine with it, else opens one."""
    groups: list[list[int]] = []
    for at, row_D in enumerate(rows_ND):
        heads = [group[0] for group in groups]
        close = np.flatnonzero(rows_ND[heads] @ row_D >= threshold) if heads else []
        if len(close):
            groups[int(close[0])].append(at)
        else:
            groups.append([at])
    return groups


def diversified(similarity_N: np.ndarray, rows_ND: np.ndarray, k: int, diverse: float) -> list[int]:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998, formula 1): positions of ``k`` rows in the order chosen.

        while fewer than k are chosen:
            choose argmax over the others of (1 − diverse) · relevance − diverse · max(likeness to a chosen one)

    Both are brought to 0…1 over the N rows first (a picture is nearer to another picture than to any words): relevance from its lowest to
    its highest value, likeness from the mean cosine of two rows to 1. ``diverse`` 0 keeps the order.
    """
    low, high = float(similarity_N.min(initial=1.0)), float(similarity_N.max(initial=-1.0))
    relevance_N = (similarity_N - low) / max(high - low, 1e-12)
    likeness_NN = rows_ND @ rows_ND.T
    mean = float(likeness_NN.mean()) if len(rows_ND) else 0.0
    likeness_NN = np.clip((likeness_NN - mean) / max(1.0 - mean, 1e-12), 0.0, 1.0)
    chosen: list[int] = []
    nearest_N = np.zeros(len(rows_ND))
    value_N = relevance_N.astype(np.float64)
    while len(chosen) < min(k, len(rows_ND)):
        value_N = (1.0 - diverse) * relevance_N - diverse * nearest_N
        value_N[chosen] = -np.inf
        chosen.append(int(value_N.argmax()))
        nearest_N = np.maximum(nearest_N, likeness_NN[chosen[-1]])
    return chosen


def duplicates(rows_ND: np.ndarray, threshold: float) -> list[list[int]]:
    """The groups of two and more that :func:`grouped` makes of all rows, from blocked products: N² multiplications, memory in N."""
    head_N = np.full(len(rows_ND), -1)
    for start in range(0, len(rows_ND), BLOCK):
        close_BN = rows_ND[start : start + BLOCK] @ rows_ND.T >= threshold
        for at, close_N in enumerate(close_BN, start):
            if head_N[at] < 0:
                later = np.flatnonzero(close_N[at:] & (head_N[at:] < 0)) + at
                head_N[later] = at
                head_N[at] = at
    order = np.argsort(head_N, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(head_N[order])) + 1) if len(order) else []
    return [group.tolist() for group in groups if len(group) > 1]


@dataclass(frozen=True, slots=True)
class Cluster:
    """Pictures that are alike.

    Args:
        name: words for what they have in common.
        ids: the pictures, those nearest to their mean first.
    """

    name: str
    ids: tuple[str, ...]


def clusters(
    rows: pa.Table, vectors_MD: np.ndarray, at_M: np.ndarray, count: int, vocabulary_VD: np.ndarray, words: list[str]
) -> list[Cluster]:
    """At most ``count`` clusters (k-means with fixed seeds) of the pictures at positions ``at_M``, the largest first.

    A cluster is called by the label or caption that most of its pictures share, where at least a third do; else by the text
    that is nearer to its mean than to the mean of all pictures by the most. Two clusters never have one name.

    Args:
        vocabulary_VD, words: unit rows of texts, and the texts.
    """
    count = min(count, len(vectors_MD))
    if count == 0:
        return []
    centre_KD, label_M = centres(torch.from_numpy(vectors_MD), count)
    names = rows.column("id")
    found, used = [], set[str]()
    for k in sorted(range(count), key=lambda k: -int((label_M == k).sum())):
        mine = np.flatnonzero(label_M == k)
        if not len(mine):
            continue
        order = mine[np.argsort(-(vectors_MD[mine] @ centre_KD[k]), kind="stable")]
        name = shared(rows, at_M[mine], used)
        if name is None:
            fit_M = vocabulary_VD @ (centre_KD[k] - vectors_MD.mean(0))
            name = next(words[i] for i in np.argsort(-fit_M, kind="stable") if words[i] not in used)
        used.add(name)
        found.append(Cluster(name, tuple(names[int(at_M[i])].as_py() for i in order)))
    return found


def centres(rows_MD: torch.Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres (K, D) of the best of several k-means (least squared distance) over about 20,000 rows, and each row's centre (M,)."""
    some_MD = rows_MD[:: max(len(rows_MD) // MANY, 1)]
    tries = [kmeans(some_MD, count, STEPS, generator(0, "clusters", start)) for start in range(STARTS)]
    costs = [float((some_MD - centre_KD[label_M]).square().sum()) for centre_KD, label_M in tries]
    centre_KD = tries[int(np.argmin(costs))][0]
    return centre_KD.numpy(), nearest(rows_MD, centre_KD).numpy()


def shared(rows: pa.Table, at_M: np.ndarray, used: set[str]) -> str | None:
    """The label, else the caption, that at least a third of the pictures share and no other cluster has."""
    for column in ("label", "caption"):
        said = Counter(value for i in at_M if (value := rows.column(column)[int(i)].as_py()))
        for text, times in said.most_common(3):
            if 3 * times >= len(at_M) and times > 1 and text not in used:
                return text
    return None
