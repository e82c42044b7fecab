"""Two gloo ranks against one: loss, gradient and updated weights of a whole step."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "engine"))

from toys import Toys, run

from diptych.engine.build import build_loader, build_model, build_tokens
from diptych.engine.checkpoint import trained_tensors, whole
from diptych.engine.optim import Ema
from diptych.engine.parallel import Ranks, strategy
from diptych.engine.state import State, plain_model, snapshot
from diptych.engine.step import Stepper, freeze


def one_step(how: str | None, *settings: str) -> dict[str, np.ndarray]:
    """Loss, gradients and weights after one step of this rank's share of the same global batch."""
    ranks = Ranks.current("cpu")
    config = run(*settings)
    model = build_model(config)
    freeze(model, config.init.frozen)
    stepper = Stepper(config, model, ranks, build_tokens(config, ranks.device), how)
    loader = build_loader(config, Toys(), model, ranks)
    stepped = stepper(next(loader), 0, 1e-2)
    found = {"loss": ranks.mean(stepped.loss), "norm": stepped.grad_norm}
    found |= {f"grad {name}": whole(p.grad) for name, p in model.named_parameters() if p.grad is not None}
    found |= {f"weight {name}": value for name, value in trained_tensors(model).items()}
    return {name: value.detach().numpy() for name, value in found.items()}


CASES = {
    "clip": (),
    "siglip round the ring": ("objective.name=siglip",),
    "gradient cache": ("data.micro=4",),
    "siglip, gradient cache": ("objective.name=siglip", "data.micro=2"),
    "frozen text": ("init.freeze=[text]",),
    "everything but the projections frozen": ("init.tune=heads",),
    "towers that share weights": ("init.preset=ms-clip-tiny",),
}


@pytest.mark.parametrize("how", ["replicate", "shard"])
@pytest.mark.parametrize("case", CASES)
def test_two_ranks_equal_one_through_a_step(case, how, two_ranks):
    one = one_step(None, *CASES[case])
    for two in two_ranks(one_step, how, *CASES[case]):
        assert two.keys() == one.keys()
        for name, value in one.items():
            if name.startswith("weight"):
                continue  # AdamW's first step is a sign, so that noise in a zero gradient moves a weight by the whole rate
            np.testing.assert_allclose(two[name], value, atol=1e-5, rtol=1e-4, err_msg=name)


def after_steps(how: str | None, steps: int, *settings: str) -> list[float]:
    """Losses of some steps, and the norm of the weights of a whole copy at the end."""
    ranks = Ranks.current("cpu")
    config = run(*settings)
    model = build_model(config)
    stepper = Stepper(config, model, ranks, None, how)
    loader = build_loader(config, Toys(), model, ranks)
    ema = Ema(model, 0.9)
    losses = []
    for step in range(steps):
        losses.append(float(ranks.mean(stepper(next(loader), step, 1e-3).loss)))
        ema.update()
    from diptych.engine.budget import Budget

    state = State(config, stepper, loader, Budget(config.budget, config.data.batch, loader.length), ema)
    saved = snapshot(state)
    moments = sum(float(value.double().square().sum()) for name, value in saved.tensors["optimizer"].items() if "exp_avg" in name)
    average = sum(float(value.double().square().sum()) for value in saved.tensors["ema"].values())
    with torch.no_grad():
        rows = plain_model(state).eval().image_features(next(build_loader(config, Toys(), model, Ranks(0, 1, 0, ranks.device))).image_BCHW)
    return [*losses, moments, average, *rows[0].tolist()]


@pytest.mark.parametrize("how", ["replicate", "shard"])
def test_several_steps_and_what_is_saved(how, two_ranks):
    one = after_steps(None, 4)
    for two in two_ranks(after_steps, how, 4):
        np.testing.assert_allclose(two, one, rtol=2e-3, atol=1e-4)


def test_strategy_goes_by_size():
    assert strategy(100_000_000, 80 << 30) == "replicate"
    assert strategy(3_000_000_000, 80 << 30) == "shard"


def train_here(folder: str, stop_at: int | None) -> list[float]:
    """Losses of a run of two ranks in one folder; rank 1 alone is told to stop after step ``stop_at``."""
    from diptych.engine.loop import train

    rank = int(os.environ.get("RANK", "0"))

    def at_step(row):
        if row["step"] == stop_at and rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        done = train(run("budget.steps=8", "optim.ema=0.9"), folder, dataset=Toys(), progress=False, on_event=at_step, device="cpu")
    except SystemExit as stopped:
        return [float(stopped.code or 0)]
    return [row["loss"] for row in done.history] + [float(done.model.log_scale.detach())]


def test_a_run_of_two_ranks_stops_goes_on_and_equals_one(two_ranks, tmp_path):
    one = train_here(str(tmp_path / "one"), None)
    assert two_ranks(train_here, str(tmp_path / "two"), 5) == [[143.0], [143.0]]
    first, second = two_ranks(train_here, str(tmp_path / "two"), None)
    np.testing.assert_allclose(first, one, rtol=1e-3)
    np.testing.assert_allclose(second[-1], one[-1], rtol=1e-3)
    assert (tmp_path / "two" / "model" / "model.safetensors").exists()
