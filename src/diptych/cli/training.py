"""What ``diptych train`` does around the engine: picks the run, holds data back, looks at the data, trains, measures."""

from __future__ import annotations

import ast
import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console

from diptych.core.errors import UsageError, nearest
from diptych.core.registry import PACKAGE
from diptych.core.rng import generator
from diptych.data.open import open as open_data
from diptych.data.preflight import Preflight, inspect
from diptych.data.preflight_view import render
from diptych.data.sets.find import names
from diptych.data.sources.base import Dataset
from diptych.engine.run import Run
from diptych.recipes.methods import chosen, with_methods
from diptych.recipes.methods import known as known_methods

YAML = (".yaml", ".yml")
TUNE = ("all", "image", "heads")
SMALLEST_HELD, LARGEST_HELD = 20, 1000


@dataclass(frozen=True, slots=True)
class Request:
    """What was typed; see the options of ``diptych train``."""

    recipe: str | None
    data: str | None
    overrides: Mapping[str, Any]
    val: str | None
    start: str | None
    tune: str | None
    settings: tuple[str, ...]
    folder: Path
    check: bool
    command: str


def train(request: Request, log: Console) -> dict[str, Any] | None:
    """Carry the request out on this rank; the first rank tells on ``log`` what it does.

    Returns:
        ``{"model", "report", "folder", "records"}``; of a check ``{"settings", "preflight"}``; None on other ranks than the first.

    Raises:
        UsageError: options that contradict one another, no such recipe, setting or data.
    """
    if request.recipe is not None and Path(request.recipe).suffix in YAML:
        from diptych.cli.heads import repeated

        request = repeated(request)
    if request.tune is not None and (request.start is None or request.tune not in TUNE):
        why = "it says which part of a given model is trained" if request.start is None else f"known: {', '.join(TUNE)}"
        raise UsageError(f"--tune {request.tune}", why, "For example --from pocket --tune heads")
    if request.recipe is not None and request.start is not None and chosen(request.recipe) is None:
        raise UsageError(
            "--from", f"the recipe {request.recipe!r} says what the weights start from", "Change it with --set init.from_=NAME"
        )
    console = log if first_rank() else Console(quiet=True)
    if request.tune == "heads":
        from diptych.cli.heads import tune

        return tune(request, console)
    return _pretrain(request, console)


def _pretrain(request: Request, console: Console) -> dict[str, Any] | None:
    """Every way of training but the tuning of heads: the engine's loop."""
    from diptych.engine.build import build_model
    from diptych.engine.loop import train as train_loop
    from diptych.evaluate.validate import validator

    named = request.recipe is not None and chosen(request.recipe) is not None
    run = None if named else named_run(request.recipe)
    path = request.data or (run.data.path if run else None)
    if run and run.data.columns and not request.overrides:
        request = replace(request, overrides=run.data.columns)
    dataset, held = open_parts(request, path, request.val or (run.data.val if run else None), run.seed if run else 0, console)
    if run is None:
        run = automatic(request, dataset, held, console)
    if named and request.recipe is not None:
        run = with_methods(run, request.recipe)
    run = run.model_copy(
        update={"data": run.data.model_copy(update={"path": path, "columns": dict(request.overrides), "val": request.val or run.data.val})}
    )
    run = run.with_set(*request.settings)
    model = build_model(run)
    found = look(dataset, model.tokenizer, run.data.workers, console)
    if request.check:
        return {"settings": run.to_yaml(), "preflight": found.as_dict()}
    validate = None if held is None else validator(held, seed=run.seed)
    train_loop(run, request.folder, model=model, dataset=dataset, validate=validate)
    return finish(request, held)


def first_rank() -> bool:
    """Whether this process is the one that speaks; ``torchrun`` numbers them."""
    return os.environ.get("RANK", "0") == "0"


def named_run(recipe: str | None) -> Run | None:
    """The run of a YAML file, or of the function of that name in ``recipes/``; None without a name. Raises :class:`UsageError`."""
    if recipe is None:
        return None
    if Path(recipe).suffix in YAML:
        return Run.from_yaml(recipe)
    known = recipes()
    if recipe not in known:
        raise UsageError(
            f"recipe {recipe!r}", "neither a recipe, nor a method, nor a .yaml file", nearest(recipe, [*known, *known_methods()])
        )
    return getattr(importlib.import_module(f"diptych.recipes.{recipe}"), recipe)()


def automatic(request: Request, dataset: Dataset, held: Dataset | None, console: Console) -> Run:
    """The run that fits the data and this machine, with the reasons told; it keeps the checkpoint that is best on ``held``."""
    from diptych.engine.auto import Tune, auto

    run, reasons = auto(dataset, start=request.start, tune=cast(Tune, request.tune or "all"))
    if held is not None:
        metric = "text_to_image_r@10" if held.captions(0) else "top1"
        run = run.model_copy(update={"save": run.save.model_copy(update={"best_metric": metric})})
        reasons.append(f"the checkpoint with the best {metric} on the held-back data is kept, so that number is a little flattered")
    for reason in reasons:
        console.print(reason, highlight=False, markup=False, soft_wrap=True)
    return run


def recipes() -> list[str]:
    """Files of ``recipes/`` with a function of their own name that gives a :class:`Run`."""
    files = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in sorted((PACKAGE / "recipes").glob("*.py"))}
    return [name for name, tree in files.items() if any(_makes_run(node, name) for node in tree.body)]


def _makes_run(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == name and isinstance(node.returns, ast.Name) and node.returns.id == "Run"


def open_parts(request: Request, path: str | None, val: str | None, seed: int, console: Console) -> tuple[Dataset, Dataset | None]:
    """Data to train on, and data to measure on: ``val``, else the validation split, else a tenth (20 to 1,000 samples).

    Nothing is held back from fewer than 200 samples.

    Raises:
        UsageError: no data, or a test set.
    """
    if path is None:
        raise UsageError("data", "nothing to train on was given", "Give --data PATH")
    dataset = open_data(path, **request.overrides)
    if dataset.sealed:
        own = f"{path.split('/')[0]}/train"
        raise UsageError(f"data {path}", "a test set is never trained on", f"Give --data {own if own in names() else 'PATH'}")
    if val is None and path.endswith("/train") and (sibling := path.removesuffix("train") + "validation") in names():
        val = sibling
    if val is not None:
        console.print(f"measured on {val}", highlight=False, markup=False)
        return dataset, open_data(val)
    if "validation" in dataset.splits and dataset.split != "validation":
        console.print("measured on the split 'validation'", highlight=False)
        return dataset, open_data(path, **{**request.overrides, "split": "validation"})
    count = min(LARGEST_HELD, len(dataset) // 10)
    if count < SMALLEST_HELD:
        console.print(f"only {len(dataset):,} samples, so none is held back; give --val to measure", highlight=False)
        return dataset, None
    order = torch.randperm(len(dataset), generator=generator(seed, "held back")).tolist()
    console.print(f"{count:,} of {len(dataset):,} samples are held back and measured on", highlight=False)
    return dataset.select(sorted(order[count:])), dataset.select(sorted(order[:count]))


def look(dataset: Dataset, tokenizer: Any, workers: int, console: Console) -> Preflight:
    """The preflight, shown before training starts."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    context = tokenizer.config.context if tokenizer is not None else 77
    found = inspect(dataset, tokenizer, context, world, max(workers, 1))
    console.print(render(found, pictures=console.is_terminal))
    return found


def finish(request: Request, held: Dataset | None) -> dict[str, Any] | None:
    """Measure what was trained and build the page, on the first rank; None on the others."""
    from diptych.evaluate.report import build
    from diptych.evaluate.run import evaluate

    model, rows = request.folder / "model", []
    if not first_rank():
        return None
    if held is not None:
        rows = [record.as_dict() for record in evaluate(str(model), held, out=request.folder, command=request.command)]
    else:
        build(request.folder)
    return {"model": str(model), "report": str(request.folder / "report.html"), "folder": str(request.folder), "records": rows}
