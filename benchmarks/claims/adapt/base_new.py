"""From base to new classes: fitted on one half of the kinds, measured on that half and on the other, each among its own names."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace

import torch
from arms import Arm, hits, rows
from common import Values
from worlds import Case, World, kinds

from diptych.adapt.parts.work import Tuned
from diptych.engine.fewshot import fitted
from diptych.recipes.adapt import named
from diptych.towers.dual import DualEncoder

METRICS = ("new classes", "base classes", "mean of base and new classes")


@functools.cache
def pair() -> tuple[World, World]:
    """Base and new kinds: every fourth of the kinds each, so that a training takes a minute."""
    world = kinds()
    base, new = world.only(range(0, len(world.labelled.classes), 2)).halves()
    where = f"{len(base.labelled.classes)} base and {len(new.labelled.classes)} new kinds of drawings in unseen styles"
    tested = f"{len(base.tested.source)} and {len(new.tested.source)} test drawings of other concepts than the shots"
    return replace(base, about=f"mini on {where}, {tested}"), new


def both(base: Values, new: Values) -> dict[str, Values]:
    """What is compared; in the mean each half counts as much as the other, however many pictures it has."""
    unit = torch.cat([base.unit_N, new.unit_N + base.unit_N.max() + 1])
    count = len(base.value_N) + len(new.value_N)
    value = torch.cat([half.value_N * count / (2 * len(half.value_N)) for half in (base, new)])
    return dict(zip(METRICS, (new, base, Values(value, unit)), strict=True))


def new_case(seed: int) -> Case:
    """The new half; nothing is fitted on its one labelled picture a class."""
    return pair()[1].case(1, seed)


def on_names(case: Case, model: DualEncoder) -> Values:
    """1.0 where a test picture is named rightly by the model's prompts and the names."""
    text_KD = model.classifier(case.work.shots.classes, None if model.prompts is not None else case.work.shots.templates).rows_KD
    assert text_KD is not None
    return Values(((rows(case, model) @ text_KD.T).argmax(1) == case.label_N).double(), case.unit_N)


def prompts(identity: str, **options: object) -> Arm:
    """A method that gives a model whose prompts serve any names."""

    def run(case: Case) -> Mapping[str, Values]:
        made = fitted(identity, case.work, options)[0]
        assert isinstance(made, Tuned)
        model = named(case.work, made, identity)
        return both(on_names(case, model), on_names(new_case(case.seed), model))

    return run


def words(case: Case) -> Mapping[str, Values]:
    """The arm that uses the class names alone."""
    new = new_case(case.seed)
    return both(hits(case, case.work.shots.zero_shot()), hits(new, new.work.shots.zero_shot()))
