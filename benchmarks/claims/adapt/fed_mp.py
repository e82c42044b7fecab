"""Fed-MP: clients have labels of every second kind; adaptive aggregation and prototypes against federated averaging, on the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from arms import Arm, Comparison, hits, main
from common import Values
from worlds import Case, World, kinds

from diptych.engine.fewshot import fitted

METRICS = ("top-1 of kinds without labels", "top-1 of kinds with labels")


def half_labelled() -> World:
    """All kinds are asked, every second one has labelled pictures."""
    world = kinds()
    source = [sample for sample in world.labelled.source if sample.label is not None and sample.label % 2 == 0]
    labelled = replace(world.labelled, source=source, fingerprint=f"{world.labelled.fingerprint}/even")
    return replace(world, labelled=labelled, about=f"{world.about}; every second kind has labelled pictures")


def told(case: Case, value: Values) -> dict[str, Values]:
    """Hits of both halves."""
    new_N = case.label_N % 2 == 1
    return {name: Values(value.value_N[part], value.unit_N[part]) for name, part in zip(METRICS, (new_N, ~new_N), strict=True)}


def federated(**options: object) -> Arm:
    """Fed-MP with some options."""

    def run(case: Case) -> Mapping[str, Values]:
        return told(case, hits(case, fitted("fed-mp", case.work, options)[0]))

    return run


def words(case: Case) -> Mapping[str, Values]:
    """The arm that uses the class names alone."""
    return told(case, hits(case, case.work.shots.zero_shot()))


if __name__ == "__main__":
    world, pool = half_labelled(), kinds().labelled
    ours, average = ("Fed-MP", federated()), ("federated averaging", federated(aggregation="fedavg", prototypes=False))
    main(*(Comparison("fed-mp", world, base, ours, metrics=METRICS, free=pool) for base in (average, ("words", words))))
