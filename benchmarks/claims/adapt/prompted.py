"""What claims about learned prompts share: a world that trains in seconds, base and new classes, and fewer shots of the same draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from arms import Arm, hits
from common import Values
from worlds import Case, World, kinds

from diptych.adapt.parts.shots import Shots
from diptych.engine.fewshot import Made, fitted
from diptych.recipes.adapt import named

EVERY = 4  # one kind of so many, which keeps a training at seconds


def few() -> World:
    """Every fourth kind of drawings."""
    world = kinds()
    part = world.only(range(0, len(world.labelled.classes), EVERY))
    about = world.about.split(" on ")[0]
    kept = f"{len(part.labelled.classes)} kinds of drawings in unseen styles, {len(part.tested.source):,} test drawings of other concepts"
    return replace(part, about=f"{about} on {kept} than the shots")


def fewer(identity: str, count: int, **options: Any) -> Arm:
    """The method with only ``count`` of each class's shots."""

    def run(case: Case) -> dict[str, Values]:
        label_S = case.work.shots.label_S
        picked = torch.cat([(label_S == k).nonzero()[:count, 0] for k in label_S.unique()])
        work = case.work.take(picked)
        return {"top-1": hits(replace(case, work=work), fitted(identity, work, options)[0])}

    return run


def base_and_new(identity: str, new: World, shots: int = 16, **options: Any) -> Arm:
    """Fitted to the classes of the case; top-1 there, and on the classes of ``new`` by their names alone. "" is words."""

    def run(case: Case) -> Mapping[str, Values]:
        made: Made = case.work.shots.zero_shot() if identity == "" else fitted(identity, case.work, options)[0]
        other = new.case(shots, case.seed)
        rows: Shots = other.work.shots
        if identity == "":
            found = rows.zero_shot()(other.image_ND)
        else:
            model = named(case.work, made, "claim")
            found = answers(model, rows.classes, other.image_ND)
        top_N = (found.argmax(1) == other.label_N).double()
        return {"new top-1": Values(top_N, other.unit_N), "base top-1": hits(case, made)}

    return run


def answers(model: Any, classes: tuple[str, ...], image_ND: torch.Tensor) -> torch.Tensor:
    """Logits of any classes by a rule, or by names behind the learned context."""
    if model.rule is not None:
        answer = model.rule.answer(model, classes)
        return torch.cat([answer.logits(part) for part in image_ND.split(64)])
    return model.classifier(classes, None).probabilities(image_ND).log()
