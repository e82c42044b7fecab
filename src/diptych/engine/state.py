"""All that changes while a run runs: what a checkpoint takes and gives back, and what the log sums up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diptych.core.errors import DiptychError
from diptych.data.loader import Loader
from diptych.engine.budget import Budget
from diptych.engine.checkpoint import (
    Checkpoints,
    Snapshot,
    frozen_hash,
    optimizer_tensors,
    put,
    put_all,
    put_optimizer,
    trained_tensors,
    whole,
)
from diptych.engine.optim import Ema
from diptych.engine.parallel import Ranks
from diptych.engine.run import Run
from diptych.engine.step import Stepped, Stepper

FORMAT = 1


@dataclass
class State:
    """A run in the middle.

    Args:
        best: the best validation value so far (higher is better), or None.
        stale: validations since then.
        finished: ended before the budget was spent.
    """

    run: Run
    stepper: Stepper
    loader: Loader
    budget: Budget
    ema: Ema | None
    best: float | None = None
    stale: int = 0
    finished: bool = False

    def note(self, value: float) -> bool:
        """Whether ``value`` is the best so far; counts the validations since."""
        if self.best is None or value > self.best:
            self.best, self.stale = value, 0
            return True
        self.stale += 1
        return False

    @property
    def names(self) -> dict[int, str]:
        """Parameter names by ``id``, those of the objective's heads too."""
        heads = {id(p): f"objective.{name}" for name, p in self.stepper.objective.method.named_parameters()}
        return heads | {id(p): name for name, p in self.stepper.model.named_parameters()}


def snapshot(state: State, weights_only: bool = False) -> Snapshot:
    """What goes to disk; every rank must ask, since shards are gathered."""
    model = state.stepper.model
    tensors: dict[str, Mapping[str, Tensor]] = {"model": trained_tensors(model)}
    facts: dict[str, Any] = {"format": FORMAT, "step": state.budget.step, "best": state.best}
    if weights_only:
        return Snapshot(tensors, facts)
    tensors["optimizer"] = optimizer_tensors(state.stepper.optimizer, state.names)
    if heads := state.stepper.objective.method.state_dict():
        tensors["objective"] = {name: whole(value) for name, value in heads.items()}
    if state.stepper.follower:
        tensors["follower"] = {name: whole(value) for name, value in state.stepper.follower.average.items()}
    if state.ema:
        tensors["ema"] = {name: whole(value) for name, value in state.ema.average.items()}
        facts["ema_updates"] = state.ema.updates
    facts |= {
        "seconds": state.budget.seconds,
        "stale": state.stale,
        "finished": state.finished,
        "frozen": frozen_hash(model),
        "loader": state.loader.state_dict(),
        "torch": torch.__version__,
    }
    return Snapshot(tensors, facts)


def restore(checkpoints: Checkpoints, state: State) -> State:
    """Put the newest checkpoint into ``state`` and start its clock; a fresh folder only starts the clock.

    Raises:
        DiptychError: the frozen weights or the data are not the ones of the checkpoint.
    """
    saved = checkpoints.load()
    if saved is None:
        state.budget.start()
        return state
    model, facts = state.stepper.model, saved.state
    if facts["frozen"] != frozen_hash(model):
        raise DiptychError(
            f"resume from {checkpoints.folder}",
            "the frozen weights are not those the run began with",
            "Restore init.from_, or use another folder",
        )
    put_all(model, saved.tensors["model"], str(checkpoints.folder))
    put_optimizer(state.stepper.optimizer, state.names, saved.tensors["optimizer"])
    put_all(state.stepper.objective.method, saved.tensors.get("objective", {}), str(checkpoints.folder))
    if state.stepper.follower:
        put_all(state.stepper.follower.copy, saved.tensors["follower"], str(checkpoints.folder))
    if state.ema:
        for name, value in saved.tensors["ema"].items():
            put(state.ema.average[name], value)
        state.ema.updates = facts["ema_updates"]
    state.loader.load_state_dict(facts["loader"])
    state.best, state.stale, state.finished = facts["best"], facts["stale"], facts["finished"]
    state.budget.start(facts["step"], facts["seconds"])
    return state


def plain_model(state: State, tensors: Mapping[str, Tensor] | None = None) -> Any:
    """The model as one process knows it (a whole copy where it is sharded), with ``tensors`` put in where given."""
    model = state.stepper.model
    if state.stepper.sharded:
        from diptych.towers.dual import DualEncoder

        copy = DualEncoder(model.config, model.tokenizer)
        copy.load_state_dict({name: whole(value) for name, value in model.state_dict().items()})
        model = copy.to(state.stepper.ranks.device)
    if tensors is not None:
        put_all(model, tensors, "best checkpoint")
    return model


class Meter:
    """Sums up the steps between two log lines, on the device."""

    def __init__(self, batch: int, chance: float | None) -> None:
        self.batch, self.chance = batch, chance
        self.restart()

    def restart(self) -> None:
        """Begin a new window; time spent in validation and saving is in none."""
        self.steps, self.began, self.loss = 0, time.monotonic(), None

    def add(self, stepped: Stepped) -> None:
        """One more step."""
        self.steps += 1
        self.loss = stepped.loss if self.loss is None else self.loss + stepped.loss

    def row(self, budget: Budget, lr: float, stepped: Stepped, ranks: Ranks) -> dict[str, Any]:
        """The log line of the window: mean loss over its steps and ranks; the rest of the last step."""
        assert self.loss is not None  # a row is asked for after a step
        loss = float(ranks.mean(self.loss / self.steps))
        speed = self.steps * self.batch / max(time.monotonic() - self.began, 1e-9)
        row = {
            "step": budget.step,
            "samples": budget.step * self.batch,
            "loss": loss,
            "chance": self.chance,
            "lr": lr,
            "scale": float(stepped.scale),
            "grad_norm": float(stepped.grad_norm),
            "images_per_s": round(speed, 2),
            "seconds": round(budget.seconds, 3),
        }
        row |= {name: float(ranks.mean(value)) for name, value in {**stepped.terms, **stepped.report}.items()}
        self.restart()
        return row
