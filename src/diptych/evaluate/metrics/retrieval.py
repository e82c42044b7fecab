"""Recall at k, both ways, with several captions an image, in bounded memory.

Shapes: Q queries, G gallery rows, D embedding width, P positive pairs.

A query's positives are the gallery rows of its group (the captions of an image; the image of a caption; every picture of one
concept). Its rank is the number of *other groups'* rows that score at least as high as its best positive, and recall at k is the share
of queries with rank < k. So text → image counts each caption, and image → text is a hit when any of the image's captions is among the
best k. The same as a loop:

    for q in queries:
        best = max(q · g for g in positives(q))
        rank = sum(q · g >= best for g in gallery if g not in positives(q))

Ties count against the model. Similarities are computed in float32 block by block; the few that lie within float32's rounding of the
best positive are decided again in float64 (where less than 1e-12 apart is a tie), so the rank does not depend on the block size or on
the order in which a matrix product adds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diptych.core.errors import UsageError

TIE = 1e-12
BLOCK = (512, 4096)


def ranks(
    query_QD: Tensor, gallery_GD: Tensor, query_group_Q: Tensor, gallery_group_G: Tensor, *, block: tuple[int, int] = BLOCK
) -> Tensor:
    """Rank of each query's best positive, 0 = first; see the module for the definition.

    Args:
        query_QD, gallery_GD: float rows (unit rows give cosine similarity).
        query_group_Q, gallery_group_G: int64; equal values are positives.
        block: how many queries and gallery rows are compared at once; memory is about 8 bytes times their product.

    Returns:
        int64 ``rank_Q`` on the CPU.

    Raises:
        UsageError: shapes disagree, a row is not finite, or a query has no positive in the gallery.
    """
    _check(query_QD, gallery_GD, query_group_Q, gallery_group_G)
    best_Q = best_positive(query_QD, gallery_GD, query_group_Q, gallery_group_G)
    rank_Q = torch.zeros(len(query_QD), dtype=torch.int64)
    if not len(query_QD):
        return rank_Q
    longest = query_QD.norm(dim=1).max().item() * gallery_GD.norm(dim=1).max().item()
    slack = max(query_QD.shape[1], 8) * 2.0**-23 * longest
    rows, columns = block
    score, hit = torch.empty(2, rows * columns)
    for i in range(0, len(query_QD), rows):
        query_qD, best_q, group_q = query_QD[i : i + rows].float(), best_Q[i : i + rows], query_group_Q[i : i + rows]
        low_q1, high_q1 = (best_q - slack).float()[:, None], (best_q + slack).float()[:, None]
        for j in range(0, len(gallery_GD), columns):
            gallery_gD = gallery_GD[j : j + columns].float()
            shape = len(query_qD), len(gallery_gD)
            score_qg, hit_qg = (flat[: shape[0] * shape[1]].view(shape) for flat in (score, hit))
            torch.mm(query_qD, gallery_gD.T, out=score_qg)
            above_q = torch.gt(score_qg, high_q1, out=hit_qg).sum(1).long()  # float sums count exactly up to 2^24 and run vectorised
            near_q = torch.ge(score_qg, low_q1, out=hit_qg).sum(1).long() - above_q
            if bool(near_q.any()):
                close_q = near_q.nonzero()[:, 0]
                close = (score_qg[close_q] >= low_q1[close_q]) & (score_qg[close_q] <= high_q1[close_q])
                above_q[close_q] += _exact(
                    query_qD[close_q], gallery_gD, best_q[close_q], group_q[close_q], gallery_group_G[j : j + columns], close
                )
            rank_Q[i : i + rows] += above_q
    return rank_Q


def best_positive(query_QD: Tensor, gallery_GD: Tensor, query_group_Q: Tensor, gallery_group_G: Tensor, pairs: int = 1 << 16) -> Tensor:
    """Similarity of each query's best positive (float64 ``Q``), ``pairs`` products at a time."""
    order_G = gallery_group_G.argsort(stable=True)
    sorted_G = gallery_group_G[order_G]
    first_Q = torch.searchsorted(sorted_G, query_group_Q)
    count_Q = torch.searchsorted(sorted_G, query_group_Q, right=True) - first_Q
    if bool((count_Q == 0).any()):
        row = int((count_Q == 0).nonzero()[0, 0])
        raise UsageError(
            f"query {row}", "nothing in the gallery belongs to it", "Leave out images without captions and captions without an image"
        )
    query_P = torch.repeat_interleave(torch.arange(len(query_QD)), count_Q)
    within_P = torch.arange(len(query_P)) - (count_Q.cumsum(0) - count_Q)[query_P]
    gallery_P = order_G[first_Q[query_P] + within_P]
    best_Q = torch.full((len(query_QD),), -math.inf, dtype=torch.float64)
    for query_p, gallery_p in zip(query_P.split(pairs), gallery_P.split(pairs), strict=True):
        best_Q.scatter_reduce_(0, query_p, _dot(query_QD[query_p], gallery_GD[gallery_p]), "amax")
    return best_Q


def _dot(a_PD: Tensor, b_PD: Tensor) -> Tensor:
    """Row by row products as float32 rows give them, summed in float64."""
    return (a_PD.float().double() * b_PD.float().double()).sum(1)


def _exact(
    query_qD: Tensor, gallery_gD: Tensor, best_q: Tensor, group_q: Tensor, group_g: Tensor, close_qg: Tensor, pairs: int = 1 << 15
) -> Tensor:
    """Among the close pairs, how many of other groups reach the best positive in float64, a query (int64 ``q``)."""
    if int(close_qg.sum()) > close_qg.numel() // 8:
        reach_qg = query_qD.double() @ gallery_gD.double().T >= best_q[:, None] - TIE
        return (reach_qg & close_qg & (group_q[:, None] != group_g[None])).sum(1)
    count_q = torch.zeros(len(query_qD), dtype=torch.int64)
    for pair_p2 in close_qg.nonzero().split(pairs):
        query_p, gallery_p = pair_p2.unbind(1)
        reach_p = _dot(query_qD[query_p], gallery_gD[gallery_p]) >= best_q[query_p] - TIE
        count_q.index_add_(0, query_p, (reach_p & (group_q[query_p] != group_g[gallery_p])).long())
    return count_q


def recall(rank_Q: Tensor, k: int) -> Tensor:
    """1.0 where a positive is among the best ``k``, else 0.0 (float64 ``Q``)."""
    if k < 1:
        raise UsageError(f"recall at {k}", "k counts answers and starts at 1", "Ask for k of 1 or more")
    return (rank_Q < k).double()


def recall_chance(k: int, gallery: int, positives_Q: Tensor) -> float:
    """Expected recall at ``k`` of a random order, exactly: the mean over queries of 1 − C(G − m, k) / C(G, k).

    Args:
        k: how many answers are looked at (at most ``gallery`` of them).
        gallery: G, rows to choose from.
        positives_Q: m, how many of them are right, for each query.
    """
    k = min(k, gallery)
    values, counts = positives_Q.unique(return_counts=True)
    total = sum(c * (1 - _misses(k, gallery, m)) for m, c in zip(values.tolist(), counts.tolist(), strict=True))
    return total / max(len(positives_Q), 1)


def _misses(k: int, gallery: int, positives: int) -> float:
    """Probability that none of ``positives`` is among k drawn without replacement from ``gallery``."""
    if gallery - positives < k:
        return 0.0
    return math.prod((gallery - positives - i) / (gallery - i) for i in range(k))


def positives_count(query_group_Q: Tensor, gallery_group_G: Tensor) -> Tensor:
    """How many gallery rows share each query's group (int64 ``Q``)."""
    sorted_G = gallery_group_G.sort().values
    return torch.searchsorted(sorted_G, query_group_Q, right=True) - torch.searchsorted(sorted_G, query_group_Q)


def best_matches(query_QD: Tensor, gallery_GD: Tensor, k: int, block: int = 256) -> tuple[Tensor, Tensor]:
    """The ``k`` best gallery rows of each query: ``(score_Qk float32, index_Qk int64)``, best first; for showing, not for counting."""
    parts = [(part.float() @ gallery_GD.float().T).topk(min(k, len(gallery_GD)), dim=1) for part in query_QD.split(block)]
    return torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts])


def _check(query_QD: Tensor, gallery_GD: Tensor, query_group_Q: Tensor, gallery_group_G: Tensor) -> None:
    if query_QD.shape[1] != gallery_GD.shape[1] or len(query_QD) != len(query_group_Q) or len(gallery_GD) != len(gallery_group_G):
        sides = [
            f"{tuple(rows.shape)} with {len(group)} groups" for rows, group in ((query_QD, query_group_Q), (gallery_GD, gallery_group_G))
        ]
        raise UsageError("retrieval", f"queries {sides[0]} against gallery {sides[1]}", "Give rows of one width and one group a row")
    for name, rows in (("query", query_QD), ("gallery", gallery_GD)):
        finite_N = (
            torch.cat([part.float().isfinite().all(1) for part in rows.split(1 << 16)]) if len(rows) else torch.ones(0, dtype=torch.bool)
        )
        if not bool(finite_N.all()):
            row = int((~finite_N).nonzero()[0, 0])
            raise UsageError(f"{name} row {row}", "its features are not finite", "Check the model's weights; training may have diverged")
