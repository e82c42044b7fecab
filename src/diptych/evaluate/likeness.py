"""How alike the rows of several models are: debiased CKA of every two of them on the same pictures.

Two models of equal accuracy may see quite different things, or the same. CKA (:mod:`diptych.evaluate.metrics.cka`) is 1 where the rows of
one are those of the other up to a rotation and a scale, and 0 on average where they have nothing in common; widths may differ.
Shapes: N pictures, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.evaluate.material import Material, table
from diptych.evaluate.measure import Subject
from diptych.evaluate.metrics import cka
from diptych.evaluate.metrics.jackknife import grouped
from diptych.evaluate.similarity import alike

LIMIT = 256
SPARE = 2  # so many times as many are drawn, for those that cannot be decoded


@dataclass(frozen=True, slots=True)
class Likeness:
    """Two models on one set.

    Args:
        value: debiased CKA of the unit rows of its pictures, with the jackknife interval over ``n`` concepts, else pictures.
    """

    set: str
    left: str
    right: str
    value: float
    interval: tuple[float, float]
    n: int


def between(
    models: Mapping[str, Callable[[], Subject]], sets: Sequence[Material], seed: int = 0
) -> tuple[tuple[Likeness, ...], tuple[str, ...]]:
    """Every two models on each of ``sets``; of sets with the same pictures the first stands for all.

    Args:
        models: by name, what gives the model with its cached rows; called one after the other, so that one model is held at a time.
        seed: draws at most :data:`LIMIT` pictures of each set, the same for all models.

    Returns:
        What was found, and in words where there was nothing to measure.
    """
    drawn = [torch.randperm(len(each.source), generator=generator(seed, "likeness"))[: SPARE * LIMIT] for each in sets]
    rows: dict[str, list[Tensor]] = {}
    for name, made in models.items():
        features = made().features
        rows[name] = [features.images(each.source, each.fingerprint)[index_M] for each, index_M in zip(sets, drawn, strict=True)]
    found, missing, seen = list[Likeness](), list[str](), list[Tensor]()
    for place, (each, index_M) in enumerate(zip(sets, drawn, strict=True)):
        of = {name: all_MD[place] for name, all_MD in rows.items()}
        kept_N = torch.stack([~row_MD.isnan().any(1) for row_MD in of.values()]).all(0).nonzero()[:LIMIT, 0]
        first_ND = next(iter(of.values()))[kept_N]
        if any(torch.equal(first_ND, other) for other in seen):
            continue
        seen.append(first_ND)
        unit_N = table(each.source).group_N[index_M[kept_N]]
        try:
            found += _pairs(each.name, {name: row_MD[kept_N] for name, row_MD in of.items()}, unit_N, seed)
        except UsageError as error:
            missing.append(f"{each.name}, likeness of the models: {error.why}")
    return tuple(found), tuple(missing)


def _pairs(name: str, rows: Mapping[str, Tensor], unit_N: Tensor, seed: int) -> list[Likeness]:
    kernels = {model: cka.gram(row_ND) for model, row_ND in rows.items()}
    pairs = []
    for left, right in combinations(kernels, 2):

        def likeness(index: Tensor, left_NN: Tensor = kernels[left], right_NN: Tensor = kernels[right]) -> float:
            return alike(left_NN, right_NN, index)

        one = grouped(likeness, len(unit_N), generator(seed, "likeness", name, "interval"), unit_N=unit_N, bounds=(-1.0, 1.0))
        pairs.append(Likeness(name, left, right, one.value, one.interval, one.n))
    return pairs
