"""Transductive multi-view zero-shot learning: names spread over a pool of pictures along hypergraphs between several views of them.

Paper: Fu et al., "Transductive Multi-view Zero-Shot Learning", TPAMI 2015, arXiv:1501.04560 (embedding of the views, heterogeneous
hypergraphs across them, label propagation), read in its abstract and in part: the equations here are this file's reading of it.
Relations: ``laplacian-shot`` has one view and one graph, and starts from labelled pictures.

Shapes: K classes, S labelled pictures (perhaps none), U pictures without labels, P = K + S + U nodes, V views, D joint width.

::

    texts[0], texts[1] = rows of the names, rows of descriptions                       # the semantic views
    view[v][u] = sum(softmax(scale * image[u] · texts[v])[k] * texts[v][k] for k)      # a picture as the words see it
    view[v][k] = texts[v][k]                                                           # the class's prototype
    view[2][u] = image[u];  view[2][k] = mean of the pictures, as likely as name k is  # the visual view
    every view: minus its mean, then unit                                              # pictures and words lie apart
    edge q of (i, j): the `neighbours` nodes of view i most like node q of view j, each counted by that likeness (above 0)
    walk(i, j) = Dn^-1/2 H De^-1 H' Dn^-1/2                                            # normalised, Dn and De the degrees
    Z = (1 - spread) * sum(spread ** t * mean(walk) ** t @ Y for t)                    # Y: prototypes and labelled pictures

What comes back is a head, so that one picture can be named: the mean row of each class over the pictures that were named so, mixed with the
words. :func:`named` gives the names of the pool itself.

What differs: the paper projects low-level features to each semantic space and joins the views by canonical correlation, fitted on the
pool; a CLIP space already joins pictures and words, and what is left of the projection's shift is taken out by the views' means. Hyperedges
weigh the same here; the paper weighs the hypergraphs by their likelihood, here their mean is taken.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.graph import assigned_means, links, nearest
from diptych.adapt.parts.shots import Shots
from diptych.adapt.parts.words import described, read_words
from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.towers.head import Head

CARD = Card(
    id="transductive-mv-zsl",
    name="Transductive multi-view zero-shot learning",
    family="adapt",
    paper="Transductive Multi-view Zero-Shot Learning, arXiv:1501.04560",
    where="transductive multi-view embedding and hypergraph label propagation",
    needs=frozenset({"unlabelled"}),
    claim="label propagation over several semantic views of the unlabelled pool beats the nearest prototype and one view alone",
    published="outperforms zero-shot and N-shot methods before it on three image and video sets (abstract)",
)
GRID: dict[str, tuple[float, ...]] = {}


class Options(BaseModel):
    """Settings of :func:`transductive_mv_zsl`.

    Args:
        words: a file of descriptions (see ``adapt/parts/words.py``); "" takes the embedded corpus's keywords.
        neighbours: nodes of a hyperedge.
        spread: how far names are carried: 0 not at all, below 1.
        steps: of the propagation.
        share: weight of the named pictures against the words in the head.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    words: str = ""
    neighbours: int = Field(default=10, ge=1)
    spread: float = Field(default=0.9, ge=0.0, lt=1.0)
    steps: int = Field(default=30, ge=1)
    share: float = Field(default=0.5, ge=0.0, le=1.0)


def transductive_mv_zsl(
    shots: Shots, *, words: str = "", neighbours: int = 10, spread: float = 0.9, steps: int = 30, share: float = 0.5
) -> Head:
    """The head; see the module. Raises :class:`UsageError` without a pool or a text tower."""
    label_U = named(shots, words=words, neighbours=neighbours, spread=spread, steps=steps).argmax(1)
    image_ND, label_N = torch.cat([shots.image_SD, shots.pool_UD]), torch.cat([shots.label_S, label_U])
    mean_KD = assigned_means(image_ND, label_N, shots.text_KD)
    made_by = f"transductive-mv-zsl, {neighbours} neighbours, spread {spread:g}, share {share:g}"
    return shots.linear(shots.scale * ((1 - share) * shots.text_KD + share * mean_KD), made_by=made_by)


def named(shots: Shots, *, words: str = "", neighbours: int = 10, spread: float = 0.9, steps: int = 30) -> Tensor:
    """How much of each name reached each picture of the pool, (U, K), rows add up to 1."""
    if not len(shots.pool_UD):
        raise UsageError("transductive-mv-zsl", "no pictures without labels were given", "Give some: names are spread over them")
    view_VPD = views(shots, [shots.text_KD, description_rows(shots, words)])
    graphs = [hypergraph(one_PD, other_PD, neighbours) for one_PD in view_VPD for other_PD in view_VPD]
    known, classes = len(shots.classes) + len(shots.label_S), len(shots.classes)
    start_PK = torch.zeros(view_VPD.shape[1], classes, dtype=view_VPD.dtype, device=view_VPD.device)
    start_PK[:known] = F.one_hot(torch.cat([torch.arange(classes, device=shots.label_S.device), shots.label_S]), classes).to(start_PK)
    reached_PK = start_PK
    for _ in range(steps):
        carried_PK = sum(torch.sparse.mm(edge_PP, torch.sparse.mm(edge_PP.T, reached_PK)) for edge_PP in graphs) / len(graphs)
        reached_PK = spread * carried_PK + (1 - spread) * start_PK
    reached_UK = reached_PK[known:] + torch.finfo(reached_PK.dtype).tiny
    return reached_UK / reached_UK.sum(1, keepdim=True)


def description_rows(shots: Shots, words: str) -> Tensor:
    """Unit rows (K, D) of a description of each class: its name and what is said of it, or its name in plain words."""
    told = read_words(words, shots.classes) if words else described(shots.classes)
    texts = [f"{name}, {', '.join(one)}" if one else f"this is {name}" for name, one in zip(shots.classes, told, strict=True)]
    return shots.texts(texts)


def views(shots: Shots, texts: list[Tensor]) -> Tensor:
    """All nodes in every view, (V, P, D) unit rows: classes, labelled pictures, the pool; semantic views first, the visual one last."""
    image_ND = torch.cat([shots.image_SD, shots.pool_UD]).double()
    made = []
    for text_KD in (text.double() for text in texts):
        seen_NK = (shots.scale * image_ND @ text_KD.T).softmax(1)
        made.append((text_KD, seen_NK @ text_KD))
    likely_NK = (shots.scale * image_ND @ texts[0].double().T).softmax(1)
    made.append(((likely_NK / likely_NK.sum(0).clamp(min=1e-12)).T @ image_ND, image_ND))
    centred = [torch.cat([F.normalize(part_ND, dim=1) - F.normalize(part_ND, dim=1).mean(0) for part_ND in parts]) for parts in made]
    return F.normalize(torch.stack(centred), dim=2)


def hypergraph(node_PD: Tensor, query_PD: Tensor, neighbours: int) -> Tensor:
    """Sparse E (P, P) of one pair of views with ``walk = E @ E.T``: ``Dn^-1/2 H De^-1/2``."""
    alike_PM, index_PM = nearest(query_PD, node_PD, neighbours)
    alike_PM = alike_PM.clamp(min=1e-6)
    edge_P = alike_PM.sum(1, keepdim=True)
    node_P = torch.zeros(len(node_PD), dtype=node_PD.dtype, device=node_PD.device).index_add_(0, index_PM.flatten(), alike_PM.flatten())
    value_PM = alike_PM / (edge_P * node_P[index_PM]).sqrt()
    return links(index_PM, value_PM, len(node_PD))
