"""A few steps of an objective on two dozen drawings, with the small preset, through the engine's own door."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from diptych.data.open import open as open_data
from diptych.engine.build import build_loader, build_model, build_tokens
from diptych.engine.parallel import Ranks
from diptych.engine.run import Run
from diptych.engine.step import Stepper, freeze

ALONE = Ranks(0, 1, 0, torch.device("cpu"))


@dataclass
class Taught:
    """A stepper after its steps, what it started from, and the loss of each step."""

    stepper: Stepper
    before: dict[str, torch.Tensor]
    losses: list[float]
    reports: list[dict[str, float]]

    @property
    def method(self) -> Any:
        return self.stepper.objective.method

    def moved(self) -> dict[str, bool]:
        """Which of the objective's own parameters are not what they were."""
        return {name: not torch.equal(p, self.before[name]) for name, p in self.method.named_parameters()}


def few_steps(name: str, *assignments: str, steps: int = 4, pictures: int = 24) -> Taught:
    """Train ``objective.name`` for ``steps`` steps of half of ``pictures`` drawings each."""
    plain = {
        "name": "few",
        "init": {"preset": "tiny"},
        "data": {"batch": pictures // 2, "workers": 0},
        "budget": {"steps": steps},
        "precision": "off",
        "objective": {"name": name},
    }
    run = Run.from_dict(plain).with_set(*assignments)
    model = build_model(run)
    freeze(model, run.init.frozen)
    every = open_data("pictograms/train")
    with build_loader(run, every.select(range(0, 100 * pictures, 100)), model, ALONE) as loader:
        stepper = Stepper(run, model, ALONE, build_tokens(run, ALONE.device))
        before = {name: p.detach().clone() for name, p in stepper.objective.method.named_parameters()}
        stepped = [stepper(next(loader), step, 1e-3) for step in range(steps)]
    losses = [float(done.loss) for done in stepped]
    return Taught(stepper, before, losses, [{key: float(value.detach()) for key, value in done.terms.items()} for done in stepped])
