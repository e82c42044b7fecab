"""What methods that train weights are measured by: gain on the kinds, what is kept elsewhere, other styles, other damage, orders.

``kept`` is naming among concepts that nothing was trained on (``pictograms/unseen``) by the adapted towers and the words.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from arms import Arm, hits, kept
from base_new import pair
from common import Values
from torch import Tensor
from worlds import Case, World, as_material, features

from diptych.core.types import Sample
from diptych.data.sets.find import find
from diptych.engine.fewshot import fitted
from diptych.evaluate.metrics.ordering import kendall
from diptych.recipes.adapt import named

STEPS = 100  # of every training here: with 15 kinds and 16 drawings each, 13 passes


@functools.cache
def some() -> World:
    """Every fourth of the kinds, so that a training takes a minute."""
    return pair()[0]


def both(identity: str, **options: Any) -> Arm:
    """Top-1 on the kinds and what is kept, of a method after the steps that all of them get."""

    def run(case: Case) -> Mapping[str, Values]:
        made = fitted(identity, case.work, {"steps": STEPS, **options})[0]
        return {"top-1": hits(case, made), "kept": kept(named(case.work, made, identity).with_head(None))}

    return run


def words(case: Case) -> Mapping[str, Values]:
    """The parent by the class names."""
    return {"top-1": hits(case, case.work.shots.zero_shot()), "kept": parent_kept()}


@functools.cache
def parent_kept() -> Values:
    """What the parent names of the concepts that nothing is trained on."""
    return kept(features("mini").model)


def styles() -> World:
    """Shots in half of the styles that ``mini`` never saw, the test in the other half; other concepts too, as in ``kinds``."""
    world = some()
    names = sorted({str(sample.meta["style"]) for sample in world.labelled.source})

    def part(source: list[Sample], odd: int) -> list[Sample]:
        return [sample for sample in source if names.index(str(sample.meta["style"])) % 2 == odd]

    made = [
        as_material(f"styles/{role}", part(list(data.source), odd), data.classes)
        for odd, (role, data) in enumerate((("shots", world.labelled), ("test", world.tested)))
    ]
    about = f"mini on {len(world.labelled.classes)} kinds, shots in {', '.join(names[::2])}, test in {', '.join(names[1::2])}"
    return World("styles", world.features, made[0], made[1], about)


def damage(test: str = "turned") -> World:
    """Whole and damaged drawings: two kinds of damage in the labelled ones (styles trained on), another in the test (unseen styles)."""
    names = ("whole drawing", "damaged drawing")

    def part(name: str, role: str, inside: bool) -> Any:
        source = [replace(s, label=int(bool(s.meta["damaged"]))) for s in find(name).samples() if (s.meta["group"] == test) == inside]
        return as_material(f"damage/{test}/{role}", source, names)

    labelled, tested = part("pictobench/anomaly-train", "shots", False), part("pictobench/anomaly", "test", True)
    return World("damage", features("mini"), labelled, tested, f"mini on damaged drawings, damage '{test}' only in the test")


def told_apart(identity: str, **options: Any) -> Arm:
    """Whether the damaged drawing of a pair looks more damaged than the whole one."""

    def run(case: Case) -> Mapping[str, Values]:
        from arms import logits

        logits_NK = logits(case, fitted(identity, case.work, options)[0])
        return {"pairs told apart": paired(case, logits_NK[:, 1] - logits_NK[:, 0])}

    return run


def paired(case: Case, score_N: Tensor) -> Values:
    """1 where the damaged drawing of a pair scores higher, 0.5 where both score the same."""
    of: dict[str, dict[int, float]] = {}
    for sample, score in zip(case.world.tested.source, score_N.tolist(), strict=True):
        of.setdefault(str(sample.meta["pair"]), {})[int(bool(sample.meta["damaged"]))] = score
    value = torch.tensor([(1 + (pair_[1] > pair_[0]) - (pair_[1] < pair_[0])) / 2 for pair_ in of.values()], dtype=torch.float64)
    return Values(value, torch.arange(len(value)))


def order(kind: str) -> World:
    """Pictures of one drawing in six numbers (``"count"``) or six sizes (``"size"``); the level is the class."""

    def part(name: str, role: str) -> Any:
        source = [sample for sample in find(name).samples() if sample.meta["group"] == kind]
        levels = sorted({sample.meta["level"] for sample in source})
        labelled = [replace(sample, label=levels.index(sample.meta["level"])) for sample in source]
        return as_material(f"order/{kind}/{role}", labelled, [f"level {i + 1}" for i in range(len(levels))])

    labelled, tested = part("pictobench/ordering-train", "shots"), part("pictobench/ordering", "test")
    return World(f"order by {kind}", features("mini"), labelled, tested, f"mini on lists of six to be put in order by {kind}")


def agreement(case: Case, score_N: Tensor) -> Mapping[str, Values]:
    """Kendall's τ-b of each list."""
    lists: dict[str, list[int]] = {}
    for i, sample in enumerate(case.world.tested.source):
        lists.setdefault(str(sample.meta["list"]), []).append(i)
    level_N = case.label_N.double()
    value = torch.cat([kendall(score_N.double()[None, index], level_N[None, index]) for index in lists.values()])
    return {"Kendall's τ": Values(value, torch.arange(len(value)))}
