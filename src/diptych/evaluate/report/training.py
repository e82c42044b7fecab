"""What a training log says on the page: loss beside guessing, validation, speed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diptych.evaluate.report import svg, words
from diptych.evaluate.report.source import RunFolder

ROWS = 20
SHOWN = ("top1", "top5", "text_to_image_r@10", "image_to_text_r@10")


def charts(run: RunFolder) -> list[dict[str, Any]]:
    """Two charts at most: title, drawing, legend of ``(style, name)``, table of numbers."""
    if not run.steps and not run.validations:
        return []
    axis = "samples" if all("samples" in row for row in run.steps) else "step"
    label = "pictures seen" if axis == "samples" else "steps"
    found = []
    if run.steps:
        loss = svg.Line("training loss", [(row[axis], row["loss"]) for row in run.steps])
        chance = svg.Line(
            "guessing, ln(batch)", [(row[axis], row["chance"]) for row in run.steps if row.get("chance") is not None], "chance"
        )
        found.append(_chart("Loss", [loss, *([chance] if chance.points else [])], "training loss beside the loss of guessing", label))
    if run.validations:
        found.append(_validation(run, axis, label))
    if run.steps and len(found) < 2 and all("images_per_s" in row for row in run.steps):
        speed = svg.Line("pictures a second", [(row[axis], row["images_per_s"]) for row in run.steps])
        found.append(_chart("Speed", [speed], "training speed", label, y_from_zero=True))
    return found


def _chart(title: str, lines: list[svg.Line], said: str, label: str, **options: Any) -> dict[str, Any]:
    legend = [(line.style, line.name) for line in lines]
    shown = svg.share if options.get("percent") else svg.number
    table = [[line.name, svg.number(x), shown(y)] for line in lines for x, y in svg.thin(line.points, ROWS)]
    drawn = svg.line_chart(lines, said, label, **options)
    return {"title": title, "svg": drawn, "legend": legend, "name": "", "head": ("Curve", label, title), "table": table}


def _validation(run: RunFolder, axis: str, label: str) -> dict[str, Any]:
    names = [name for name in dict.fromkeys(name for _, values in run.validations for name in values) if "[" not in name]
    names = [name for name in SHOWN if name in names][:2] or names[:2]
    place = _step_to_axis(run, axis)
    lines = [
        svg.Line(_title(name), [(place(step), values[name]) for step, values in run.validations if name in values], svg.styles(i))
        for i, name in enumerate(names)
    ]
    shares = all(0 <= y <= 1 for line in lines for _, y in line.points)
    return _chart("Validation", lines, "validation while training", label, y_from_zero=shares, percent=shares)


def _title(metric: str) -> str:
    """The log does not say which protocol a metric is of; any that knows it names it."""
    named = (module.ABOUT[metric].title for module in words.protocols().values() if metric in module.ABOUT)
    return next(named, metric.replace("_", " "))


def _step_to_axis(run: RunFolder, axis: str) -> Callable[[float], float]:
    """Validation lines name steps only; the nearest training line says how many samples that was."""
    known = [(row["step"], row[axis]) for row in run.steps]
    if axis == "step" or not known:
        return lambda step: step
    return lambda step: min(known, key=lambda pair: abs(pair[0] - step))[1]


def summary(run: RunFolder) -> dict[str, Any] | None:
    """How long it trained and where the loss ended; None without a log."""
    if not run.steps:
        return None
    last = run.steps[-1]
    rates = sorted(row["images_per_s"] for row in run.steps if "images_per_s" in row)
    return {
        "steps": last["step"],
        "samples": last.get("samples"),
        "minutes": last["seconds"] / 60 if "seconds" in last else None,
        "loss": last["loss"],
        "chance": last.get("chance"),
        "images_per_s": rates[len(rates) // 2] if rates else None,
    }
