"""A run that is killed, stopped, starved of disk or poisoned: what is left, and that going on changes nothing."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from toys import Toys, run

from diptych.core.errors import DiptychError, UsageError
from diptych.engine.checkpoint import Checkpoints, Snapshot, write_folder
from diptych.engine.loop import TERMINATED, train
from diptych.towers.formats.load import load

HERE = Path(__file__).parent
SETTINGS = ("optim.ema=0.9", "data.micro=8", "data.augment.flip=0.5", "data.workers=2", "tokens.name=random-mask", "optim.lr=0.002")
FACTS = ("step", "samples", "loss", "lr", "scale", "grad_norm", "image_to_text", "image_accuracy")


def facts(history: list[dict]) -> list[tuple]:
    """What must repeat to the bit; speed and seconds do not."""
    return [tuple(row[name] for name in FACTS) for row in history]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run without interruption: its weights and its history."""
    done = train(run(*SETTINGS), tmp_path_factory.mktemp("whole"), dataset=Toys(), progress=False)
    assert len(done.history) == 12
    return done


def check_equals(whole, done):
    for name, value in whole.model.state_dict().items():
        assert torch.equal(done.model.state_dict()[name], value), name
    assert facts(done.history) == facts(whole.history)
    written = [json.loads(line) for line in (done.folder / "log.jsonl").read_text().splitlines()]
    assert facts(written) == facts(whole.history)


CHILD = """
import os, signal, sys
sys.path.insert(0, {here!r})
from toys import Toys, run
from diptych.engine import checkpoint
from diptych.engine.loop import train

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def at_step(row):
    if row["step"] == 6 and {where!r} == "between steps":
        die()

syncs = []
def sync(folder, before=checkpoint.sync_folder):
    syncs.append(folder)
    if len(syncs) == 3 and {where!r} == "while saving":
        die()
    before(folder)

checkpoint.sync_folder = sync
train(run(*{settings!r}), {folder!r}, dataset=Toys(), progress=False, on_event=at_step)
"""


@pytest.mark.parametrize("where", ["between steps", "while saving"])
def test_kill_9_and_go_on(where, whole, tmp_path):
    code = CHILD.format(here=str(HERE), where=where, settings=SETTINGS, folder=str(tmp_path))
    killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert Checkpoints(tmp_path / "checkpoints", 2).steps() == [4]
    check_equals(whole, train(run(*SETTINGS), tmp_path, dataset=Toys(), progress=False))


def test_sigterm_saves_and_exits(whole, tmp_path):
    def at_step(row):
        if row["step"] == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        train(run(*SETTINGS), tmp_path, dataset=Toys(), progress=False, on_event=at_step)
    assert stopped.value.code == TERMINATED == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert Checkpoints(tmp_path / "checkpoints", 2).steps() == [4, 6]
    check_equals(whole, train(run(*SETTINGS), tmp_path, dataset=Toys(), progress=False))


def test_full_disk_leaves_the_last_checkpoint(whole, tmp_path):
    """The system refuses files above 20 kB from step 5 on, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def at_step(row):
        if row["step"] == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    try:
        with pytest.raises(DiptychError) as full:
            train(run(*SETTINGS), tmp_path, dataset=Toys(), progress=False, on_event=at_step)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "step-00000008" in full.value.what
    assert "Make room" in full.value.mend
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000004"]
    check_equals(whole, train(run(*SETTINGS), tmp_path, dataset=Toys(), progress=False))


class Poison(nn.Module):
    """Like its inner module until call ``at``; from then on row 3 is not finite."""

    def __init__(self, inner: nn.Module, at: int) -> None:
        super().__init__()
        self.inner, self.at, self.calls = inner, at, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        y = self.inner(x)
        return torch.where(torch.arange(len(y))[:, None, None] == 3, torch.inf, y) if self.calls >= self.at else y


def test_first_value_that_is_not_finite_names_module_and_sample(tmp_path):
    from diptych.engine.build import build_loader, build_model
    from diptych.engine.parallel import Ranks

    model, loader = build_model(run()), None
    model.image.blocks[0].mlp.down = Poison(model.image.blocks[0].mlp.down, at=6)
    loader = build_loader(run(), Toys(), model, Ranks(0, 1, 0, torch.device("cpu")))
    bad = [next(loader) for _ in range(6)][-1]
    with pytest.raises(DiptychError) as caught:
        train(run(), tmp_path, model=model, dataset=Toys(), progress=False)
    assert caught.value.what.startswith("step 5:")
    assert "image.blocks.0.mlp.down" in caught.value.what
    assert caught.value.why == f"the samples were {bad.ids[3]}; the last good checkpoint is step 4"
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_best_is_kept_and_patience_ends_the_run(tmp_path):
    """The metric is best at the second of the validations, so the run ends after the fourth with those weights."""
    seen: list[dict[str, torch.Tensor]] = []
    values = iter([0.1, 0.5, 0.5, 0.4, 0.9])

    def validate(model):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"top1": next(values)}

    config = run("save.every=2", "save.best_metric=top1", "save.patience=2", "save.keep=1")
    done = train(config, tmp_path, dataset=Toys(), validate=validate, progress=False)
    assert len(seen) == 4
    assert all(torch.equal(done.model.state_dict()[name], value) for name, value in seen[1].items())
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["best", "step-00000008"]
    assert [row["validation"]["top1"] for row in done.history if "validation" in row] == [0.1, 0.5, 0.5, 0.4]
    again = train(config, tmp_path, dataset=Toys(), validate=validate, progress=False)
    assert len(seen) == 4
    assert all(torch.equal(again.model.state_dict()[name], value) for name, value in seen[1].items())


def test_lower_is_better_with_a_minus(tmp_path):
    values = iter([3.0, 1.0, 2.0])
    config = run("save.best_metric=-loss")
    train(config, tmp_path, dataset=Toys(), validate=lambda _: {"loss": next(values)}, progress=False)
    assert json.loads((tmp_path / "checkpoints" / "best" / "state.json").read_text())["step"] == 8


def test_a_folder_of_another_run_is_refused(tmp_path):
    train(run("budget.steps=4"), tmp_path, dataset=Toys(), progress=False)
    with pytest.raises(UsageError, match=r"another optim\."):
        train(run("budget.steps=4", "optim.lr=0.5"), tmp_path, dataset=Toys(), progress=False)
    with pytest.raises(UsageError, match="nothing measures it"):
        train(run("save.best_metric=x"), tmp_path / "other", dataset=Toys(), progress=False)


def test_frozen_text_stays_and_a_clock_budget_ends(tmp_path):
    from diptych.engine.build import build_model

    config = run("init.freeze=[text, text_projection]").model_copy(update={"budget": run("budget.seconds=0.5").budget})
    before = build_model(config).state_dict()
    done = train(config, tmp_path, dataset=Toys(), progress=False)
    same = {name: torch.equal(value, before[name]) for name, value in done.model.state_dict().items()}
    assert all(equal for name, equal in same.items() if name.startswith("text"))
    assert not all(equal for name, equal in same.items() if name.startswith("image"))
    assert done.history[-1]["seconds"] >= 0.5
    frozen_too = json.loads((sorted((tmp_path / "checkpoints").iterdir())[-1] / "state.json").read_text())
    assert len(frozen_too["frozen"]) == 64


def test_it_learns(tmp_path):
    """60 steps bring the loss of 16 toys from above chance, ln 16, to under half of it."""
    done = train(run("budget.steps=60", "optim.lr=0.002", "save.every=100"), tmp_path, dataset=Toys(), progress=False)
    assert done.history[0]["chance"] == pytest.approx(2.7726, abs=1e-4)
    assert done.history[0]["loss"] > 2.5
    assert done.history[-1]["loss"] < 1.4
    written = load(tmp_path / "model")
    assert written.config.name == "toys"
    assert written.fingerprint() == done.model.fingerprint()


def test_what_is_replaced_stays_whole_when_the_disk_is_full(tmp_path):
    """Rewriting a folder of the same name fails; the old one is as it was, and nothing lies beside it."""
    target = tmp_path / "best"
    write_folder(target, Snapshot({"model": {"w": torch.ones(4)}}, {"step": 1}))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(DiptychError):
            write_folder(target, Snapshot({"model": {"w": torch.zeros(100_000)}}, {"step": 2}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    kept = Checkpoints(tmp_path, 1).load("best")
    assert kept is not None
    assert kept.state["step"] == 1
    assert torch.equal(kept.tensors["model"]["w"], torch.ones(4))
