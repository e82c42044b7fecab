"""``diptych train --from MODEL --tune heads``: two small heads on cached features."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from rich.console import Console

from diptych.cli.training import Request, finish, look, open_parts
from diptych.core.errors import UsageError, nearest
from diptych.engine.heads import HeadsConfig, tune_heads
from diptych.engine.options import read_yaml
from diptych.towers.formats.load import load, save


def tune(request: Request, console: Console) -> dict[str, Any] | None:
    """Tune the heads of ``request.start`` on the data, save the model and measure it on data that was held back.

    ``--set`` names fields of :class:`HeadsConfig`, or ``seed``.
    """
    seed, config = settings(request.settings)
    dataset, held = open_parts(request, request.data, request.val, seed, console)
    model = load(str(request.start))
    found = look(dataset, model.tokenizer, 1, console)
    asked = {"from": request.start, "tune": "heads", "data": request.data, "val": request.val, "seed": seed, "heads": config.model_dump()}
    text = yaml.safe_dump(asked, sort_keys=False, allow_unicode=True)
    if request.check:
        return {"settings": text, "preflight": found.as_dict()}
    (request.folder / "run.yaml").write_text(text, encoding="utf-8")
    log = request.folder / "log.jsonl"
    log.unlink(missing_ok=True)

    def on_event(event: Mapping[str, Any]) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows(event))
        console.print(line(event), highlight=False, soft_wrap=True)

    tuned = tune_heads(model, dataset, config=config, seed=seed, on_event=on_event)
    save(tuned, request.folder / "model")
    return finish(request, held)


def repeated(request: Request) -> Request:
    """The request with what a ``run.yaml`` of an earlier tuning of heads says; any other file leaves it as it is.

    What is typed now comes before what the file says.
    """
    try:
        values = read_yaml(Path(str(request.recipe)).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return request  # Run.from_yaml reads it again and says what is wrong
    if not isinstance(values, dict) or values.get("tune") != "heads":
        return request
    before = tuple(f"{name}={json.dumps(value)}" for name, value in {**values["heads"], "seed": values["seed"]}.items())
    return replace(
        request,
        recipe=None,
        start=request.start or values["from"],
        tune="heads",
        data=request.data or values["data"],
        val=request.val or values["val"],
        settings=(*before, *request.settings),
    )


def settings(assignments: tuple[str, ...]) -> tuple[int, HeadsConfig]:
    """The seed and the configuration that ``--set name=value`` ask for.

    Raises:
        UsageError: an unknown name (the nearest is given), no ``=``, or a bad value.
    """
    values: dict[str, Any] = {}
    known = ("seed", *HeadsConfig.model_fields)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment!r}", "it has no '='", "Write it as lr=1e-3")
        if name not in known:
            raise UsageError(f"setting {name!r}", "the tuning of heads has no such setting", nearest(name, known))
        try:
            values[name] = read_yaml(text)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {assignment!r}", "the value is no YAML", "Quote it") from error
    seed = values.pop("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise UsageError("setting 'seed'", f"a whole number is needed (it was {seed!r})", "Write it as seed=1")
    try:
        return seed, HeadsConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "heads"
        raise UsageError(f"setting {where}", f"{first['msg']} (it was {first['input']!r})", f"Mend {where}") from error


def rows(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One look at the held-back part as lines of ``log.jsonl``: the loss, where a step was done, and the validation."""
    told = {name: event[name] for name in ("step", "loss", "chance", "scale", "seconds")}
    seen = {"text_to_image_r@10": event["text_to_image"], "image_to_text_r@10": event["image_to_text"]}
    return [*([told] if event["loss"] is not None else []), {"step": event["step"], "validation": seen}]


def line(event: Mapping[str, Any]) -> str:
    """The same for a reader."""
    loss = "start" if event["loss"] is None else f"loss {event['loss']:.3f} (chance {event['chance']:.3f})"
    recall = f"recall@10 {event['text_to_image']:.3f} to pictures, {event['image_to_text']:.3f} to texts"
    return f"step {event['step']:,}  {loss}  {recall}  {event['seconds']:.0f} s"
