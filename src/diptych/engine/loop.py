"""The training loop, whole: build, resume, step until the budget is spent, validate, save."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from diptych.core.errors import UsageError
from diptych.core.types import Batch
from diptych.engine import optim
from diptych.engine.budget import Budget
from diptych.engine.build import build_loader, build_model, build_tokens, open_data, with_bias
from diptych.engine.checkpoint import Checkpoints
from diptych.engine.finite import explain
from diptych.engine.log import Listener, Log, Screen
from diptych.engine.objective import entry_of
from diptych.engine.parallel import Ranks
from diptych.engine.run import Run
from diptych.engine.state import Meter, State, plain_model, restore, snapshot
from diptych.engine.step import Stepped, Stepper, freeze

Validate = Callable[[Any], Mapping[str, float]]
TERMINATED = 143  # exit code after SIGTERM: 128 + 15, as a shell reports it


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A trained model, where it lies, and every logged line."""

    model: Any
    folder: Path
    history: list[dict[str, Any]]


def train(
    run: Run,
    folder: Path | str,
    *,
    model: Any = None,
    dataset: Any = None,
    validate: Validate | None = None,
    on_event: Listener | None = None,
    progress: bool = True,
    device: str | None = None,
) -> TrainResult:
    """Train until the budget is spent, or go on where an earlier call on ``folder`` stopped.

    Args:
        run: the settings; written to ``folder/run.yaml``.
        folder: gets ``run.yaml``, ``log.jsonl``, ``checkpoints/`` and, at the end, the native model ``model/``. Where it
            holds checkpoints of an equal run, training goes on from the newest; with a budget by steps, samples or
            epochs to the same bits as without the interruption.
        model: what to train in place of what ``run.init`` names; it is trained in place.
        dataset: what to train on in place of ``run.data.path``.
        validate: called with the model at each checkpoint; gives numbers by name.
        on_event: called with each line that is logged.
        progress: show loss against chance, images a second and the time left on standard error.
        device: ``"cpu"``, ``"cuda"`` …; by default the accelerator where there is one.

    Raises:
        UsageError: the folder holds another run; a setting does not fit.
        DiptychError: a value that is not finite, a full disk, too many broken samples.
        SystemExit: with code 143 after SIGTERM, when a checkpoint has been saved.
    """
    folder, ranks = Path(folder), Ranks.current(device)
    if run.save.best_metric is not None and validate is None:
        raise UsageError("save.best_metric", "nothing measures it", "Pass validate, or leave out save.best_metric")
    if ranks.first:
        _claim(folder, run)
    ranks.barrier()
    dataset = open_data(run) if dataset is None else dataset
    model = build_model(run) if model is None else with_bias(model, entry_of(run).load())
    model.to(ranks.device)
    freeze(model, run.init.frozen)
    with torch.random.fork_rng(), build_loader(run, dataset, model, ranks) as loader:
        stepper = Stepper(run, model, ranks, build_tokens(run, ranks.device))
        ema = optim.Ema(model, run.optim.ema) if run.optim.ema is not None else None
        budget = Budget(run.budget, run.data.batch, loader.length)
        checkpoints = Checkpoints(folder / "checkpoints", run.save.keep)
        state = restore(checkpoints, State(run, stepper, loader, budget, ema))
        log = Log(folder / "log.jsonl", state.budget.step) if ranks.first else None
        with Screen(run.name, progress and ranks.first) as screen, _sigterm() as stopping:
            _until_spent(state, checkpoints, validate, log, on_event, screen, stopping)
        kept = _finish(state, checkpoints, folder)
    return TrainResult(kept, folder, log.history if log else [])


def _until_spent(
    state: State,
    checkpoints: Checkpoints,
    validate: Validate | None,
    log: Log | None,
    on_event: Listener | None,
    screen: Screen,
    stopping: list[int],
) -> None:
    """Steps, with what happens between them. A step's finiteness is read one step later on an accelerator, without a stall."""
    run, budget, ranks = state.run, state.budget, state.stepper.ranks
    meter = Meter(run.data.batch, entry_of(run).load().chance(run.data.batch))
    unchecked: deque[tuple[int, Batch, Stepped]] = deque()
    lag = 0 if ranks.device.type == "cpu" else 1

    def tell(row: dict[str, Any]) -> None:
        if log:
            log.append(row)
        if on_event:
            on_event(row)

    if budget.step:
        screen.say(f"going on from step {budget.step:,}")
    ended = state.finished or ranks.any(budget.spent)[0]
    while not ended:
        batch = next(state.loader)
        lr = optim.rate(run.optim, budget.progress, budget.step_share)
        stepped = state.stepper(batch, budget.step, lr, budget.progress)
        unchecked.append((budget.step, batch, stepped))
        _check(state, unchecked, lag, checkpoints)
        if state.ema:
            state.ema.update()
        budget.step += 1
        meter.add(stepped)
        stop, ended = ranks.any(bool(stopping), budget.spent)
        if budget.step % run.save.log_every == 0 or ended:
            row = meter.row(budget, lr, stepped, ranks)
            tell(row)
            screen.show(row, 1.0 if ended else budget.progress, budget.seconds_left)
        if budget.step % run.save.every == 0 or stop or ended:
            _check(state, unchecked, 0, checkpoints)
            if validate and not stop:  # a run that is stopped has no time left; it validates when it goes on
                values = _validate(state, validate, checkpoints)
                tell({"step": budget.step, "validation": values})
                screen.say("  ".join(f"{name} {value:.4f}" for name, value in values.items()))
            saved = snapshot(state)
            if ranks.first:
                checkpoints.save(budget.step, saved)
            meter.restart()
            ended = ended or state.finished
        if stop:
            screen.say(f"stopped by SIGTERM at step {budget.step:,}; the same command goes on from here")
            raise SystemExit(TERMINATED)


def _check(state: State, unchecked: deque[tuple[int, Batch, Stepped]], lag: int, checkpoints: Checkpoints) -> None:
    """Raise for the oldest steps (all but the newest ``lag``) where one was not finite."""
    while len(unchecked) > lag:
        step, batch, stepped = unchecked.popleft()
        if float(stepped.bad):
            steps = checkpoints.steps()
            saved = f"the last good checkpoint is step {steps[-1]}" if steps else "no checkpoint was saved yet"
            raise explain(state.stepper.encoder, lambda: state.stepper.repeat(batch, step), batch, step, saved)  # noqa: B023


def _validate(state: State, validate: Validate, checkpoints: Checkpoints) -> dict[str, float]:
    """Measure the weights that would be kept; remember the best, and end the run when patience is out."""
    save = state.run.save
    with state.ema.in_place() if state.ema else nullcontext():
        values = {name: float(value) for name, value in validate(plain_model(state)).items()}
        if save.best_metric is None:
            return values
        name = save.best_metric.removeprefix("-")
        if name not in values:
            raise UsageError(f"save.best_metric={save.best_metric!r}", "validation does not give it", f"It gives: {', '.join(values)}")
        value = -values[name] if save.best_metric.startswith("-") else values[name]
        if state.note(value):
            best = snapshot(state, weights_only=True)
            if state.stepper.ranks.first:
                checkpoints.save_best(best)
    state.finished = save.patience is not None and state.stale >= save.patience
    return values


def _finish(state: State, checkpoints: Checkpoints, folder: Path) -> Any:
    """The weights that are kept (best, else average, else last), in evaluation mode and as a native model folder of the run's name."""
    best = checkpoints.load("best") if state.run.save.best_metric is not None else None
    if state.ema:
        state.ema.apply()
    model = plain_model(state, best.tensors["model"] if best else None)
    model.eval()
    run = state.run
    model.config = model.config.model_copy(update={"name": run.name, "parent": run.init.from_ or model.config.parent})
    if state.stepper.ranks.first:
        from diptych.towers.formats.load import save

        save(model, folder / "model")
    state.stepper.ranks.barrier()
    return model


def _claim(folder: Path, run: Run) -> None:
    """Write ``run.yaml``, or make sure that a folder with checkpoints belongs to an equal run."""
    path = folder / "run.yaml"
    if path.exists() and list((folder / "checkpoints").glob("step-*")):
        before, now = Run.from_yaml(path).model_dump(mode="json"), run.model_dump(mode="json")
        differ = [part for part in now if part != "save" and before[part] != now[part]]
        if differ:
            raise UsageError(f"folder {folder}", f"it holds a run with another {', '.join(differ)}", "Train into another folder")
    try:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        path.write_text(run.to_yaml(), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"folder {folder}", error.strerror or str(error), "Give a folder that can be written") from error


@contextmanager
def _sigterm() -> Iterator[list[int]]:
    """A list that is not empty once SIGTERM has come. Outside the main thread signals stay as they are."""
    came: list[int] = []
    try:
        before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    except ValueError:
        yield came
        return
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)
