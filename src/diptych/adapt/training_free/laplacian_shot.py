"""LaplacianShot: pictures without labels are named together, each near a class's prototype and like its neighbours.

Paper: Ziko et al., "Laplacian Regularized Few-Shot Learning", ICML 2020, arXiv:2006.15486 (the regularised objective and its
bound updates).
Code: https://github.com/imtiazziko/LaplacianShot
Relations: with ``pull`` 0 it is ``nearest-mean``; ``transductive-mv-zsl`` spreads names over several views at once and needs no labels.

Shapes: S labelled pictures, U pictures without labels, K classes, D joint width, N pictures to name.

::

    prototype[k] = unit((1 - share) * text[k] + share * unit(mean(image[s] for s if label[s] == k)))
    unary[u, k] = scale / 2 * sum((free[u] - prototype[k]) ** 2)
    near[u, v] = 1 if v is among the `neighbours` pictures nearest to u, u itself aside
    y[u] = softmax(-unary[u])
    until the energy of y stops falling:
        y[u] = softmax(-unary[u] + pull * sum(near[u, v] * y[v] for v))

What comes back is a head, so that one picture can be named: the mean row of each class over the labelled pictures and those of the pool
that were named so, mixed with the words. :func:`named` gives the names of the pool itself.

The paper has no words and rectifies prototypes by a first round of means over the pool; here the words are a part of the prototype. It
takes distances as they are; rows of one model lie close together, so that the model's ``scale`` makes differences count, as it does for its
own answers.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.graph import assigned_means, links, nearest
from diptych.adapt.parts.shots import Shots, class_means
from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.towers.head import Head

CARD = Card(
    id="laplacian-shot",
    name="LaplacianShot",
    family="adapt",
    paper="Laplacian Regularized Few-Shot Learning, arXiv:2006.15486",
    where="the regularised objective and its bound updates",
    code="https://github.com/imtiazziko/LaplacianShot",
    needs=frozenset({"labels", "unlabelled"}),
    claim="transductive inference without training beats transductive methods that train",
    published="consistently above the methods before it on five few-shot benchmarks (abstract)",
)
GRID = {"share": (0.25, 0.5, 0.75), "pull": (0.1, 0.5, 1.0)}


class Options(BaseModel):
    """Settings of :func:`laplacian_shot`.

    Args:
        pull: weight of the neighbours against the prototypes.
        neighbours: pictures that a picture is tied to.
        share: weight of pictures against words in a prototype.
        steps: most updates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    pull: float = Field(default=1.0, ge=0.0)
    neighbours: int = Field(default=3, ge=1)
    share: float = Field(default=0.5, ge=0.0, le=1.0)
    steps: int = Field(default=20, ge=1)


def laplacian_shot(shots: Shots, *, pull: float = 1.0, neighbours: int = 3, share: float = 0.5, steps: int = 20) -> Head:
    """The head; see the module. Raises :class:`UsageError` where there are no pictures without labels."""
    label_U = named(shots, pull=pull, neighbours=neighbours, share=share, steps=steps).argmax(1)
    image_ND, label_N = torch.cat([shots.image_SD, shots.pool_UD]), torch.cat([shots.label_S, label_U])
    mean_KD = assigned_means(image_ND, label_N, shots.text_KD)
    made_by = f"laplacian-shot, pull {pull:g}, {neighbours} neighbours, share {share:g}"
    return shots.linear(shots.scale * ((1 - share) * shots.text_KD + share * mean_KD), made_by=made_by)


def named(shots: Shots, *, pull: float = 1.0, neighbours: int = 3, share: float = 0.5, steps: int = 20) -> Tensor:
    """How much each picture of the pool belongs to each class, (U, K), rows add up to 1."""
    pool_UD = shots.pool_UD
    if len(pool_UD) < 2:
        why = f"it names pictures by their neighbours, and {len(pool_UD)} without labels {'was' if len(pool_UD) == 1 else 'were'} given"
        raise UsageError("laplacian-shot", why, "Give pictures without labels")
    mean_KD = F.normalize(class_means(shots), dim=1).float()
    prototype_KD = F.normalize((1 - share) * shots.text_KD + share * mean_KD, dim=1)
    unary_UK = shots.scale * (1 - pool_UD @ prototype_KD.T)
    _, index_UM = nearest(pool_UD, pool_UD, neighbours, own=False)
    near_UU = links(index_UM, torch.ones_like(index_UM, dtype=unary_UK.dtype), len(pool_UD)).T
    share_UK, last = (-unary_UK).softmax(1), torch.inf
    carried_UK = pull * torch.sparse.mm(near_UU, share_UK)
    for _ in range(steps):
        share_UK = (carried_UK - unary_UK).softmax(1)
        carried_UK = pull * torch.sparse.mm(near_UU, share_UK)
        energy = float((share_UK * (share_UK.clamp(min=1e-20).log() + unary_UK - carried_UK)).sum())
        if abs(energy - last) <= 1e-6 * abs(last):
            break
        last = energy
    return share_UK
