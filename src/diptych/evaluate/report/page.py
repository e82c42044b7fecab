"""Folds a run folder into one self-contained page: style, script, charts and pictures are inside, nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from diptych import __version__
from diptych.core.errors import DiptychError
from diptych.core.types import Record
from diptych.evaluate.report import svg, words
from diptych.evaluate.report.source import RunFolder, read

HERE = files("diptych.evaluate.report")


def build_page(folder: Path) -> Path:
    """Write ``folder/report.html``.

    Raises:
        DiptychError: the folder holds neither records nor a log, a file in it is damaged, or it cannot be written.
    """
    run = read(folder)
    path = folder / "report.html"
    temporary = path.with_suffix(".html.part")
    try:
        temporary.write_text(render(run), encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise DiptychError(
            f"report {path}", error.strerror or str(error), "Free some space or give a folder that you may write to"
        ) from error
    return path


def render(run: RunFolder) -> str:
    """The page as text."""
    script = _asset("script.js")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_finalize, keep_trailing_newline=True
    )
    environment.filters |= {"percent": words.percent, "points": words.points, "between": words.between, "number": svg.number}
    environment.filters |= {"title_of": words.title, "times": words.times_chance, "bytes": _bytes, "meaning": words.meaning}
    environment.globals["picture"] = run.picture
    return environment.from_string(_asset("page.html.j2")).render(
        style=Markup(_asset("style.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        made=datetime.now(UTC).strftime("%-d %B %Y, %H:%M UTC"),
        version=__version__,
        **_content(run),
    )


def _finalize(value: Any) -> Any:
    return (
        value
        if isinstance(value, Markup) or not isinstance(value, str) or value.startswith("data:image/webp;base64,")
        else svg.plain(value)
    )


def _asset(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _content(run: RunFolder) -> dict[str, Any]:
    models = list(dict.fromkeys(record.model for record in run.records))
    model = models[-1] if models else ""
    records = [record for record in run.records if record.model == model]
    sections = [section for section in run.sections if section["model"] == model]
    about = {section["set"]: section.get("about", "") for section in sections}
    classes = {section["set"]: section["classes"] for section in sections if "classes" in section}
    name = run.path.resolve().name
    return {
        "name": name,
        "model": model,
        "models": models,
        "heads": [_head(record, records, classes.get(record.set)) for record in words.main_records(records)],
        "charts": _charts(run),
        "training": _training(run),
        "tables": _tables(records, about),
        "parts": _parts(records),
        "confusions": [section for section in sections if section.get("confusions")],
        "retrievals": [section for section in sections if section.get("text_to_image")],
        "speed": next((section["speed"] for section in reversed(sections) if section.get("speed")), None),
        "notes": list(dict.fromkeys(note for section in sections for note in section.get("notes", ()))),
        "recipe": run.recipe,
        "commands": list(dict.fromkeys(record.command for record in run.records if record.command)),
        "records": run.records,
    }


def _find(records: Sequence[Record], like: Record, kind: str) -> Record | None:
    wanted = (like.set, like.protocol, f"{like.metric}.{kind}")
    return next((record for record in records if (record.set, record.protocol, record.metric) == wanted), None)


def _mark(record: Record, top: float = 1.0) -> Markup:
    guessing = "" if record.chance is None else f", chance {words.percent(record.chance)}"
    label = f"{words.shown(record)}, 95% interval {words.between(record)}{guessing}"
    return svg.interval_mark(record.value, *record.interval, record.chance, label, top=top)


def _head(record: Record, records: Sequence[Record], classes: int | None) -> dict[str, Any]:
    gain = _find(records, record, "gain")
    sentences = [words.verdict(record, classes)]
    if gain:
        sentences.append(words.compared(gain, _find(records, record, "retention")))
    return {"record": record, "mark": _mark(record), "sentences": sentences, "standing": words.standing(record)}


def _tables(records: Sequence[Record], about: Mapping[str, str]) -> list[dict[str, Any]]:
    """One table a set, its rows the metrics over the whole set."""
    tables: dict[str, dict[str, Any]] = {}
    for record in records:
        _, part, kind = words.split(record.metric)
        if part or kind:
            continue
        table = tables.setdefault(
            record.set, {"set": record.set, "version": record.version, "about": about.get(record.set, ""), "rows": []}
        )
        pair = {name: _find(records, record, name) for name in words.KINDS}
        table["rows"].append({"record": record, "mark": _mark(record), "standing": words.standing(record), **pair})
        table["compared"] = table.get("compared", False) or pair["gain"] is not None
    return list(tables.values())


def _parts(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Bars a part of the set, best first, on a scale that the widest interval fills."""
    found: dict[tuple[str, str], list[tuple[str, Record]]] = {}
    for record in records:
        metric, part, kind = words.split(record.metric)
        if part and not kind:
            found.setdefault((record.set, metric), []).append((part, record))
    blocks = []
    for (name, metric), rows in found.items():
        top = max(max(record.interval[1] for _, record in rows), 1e-6)
        top = min(1.0, svg.ticks(0, top, 4)[-1] + (svg.ticks(0, top, 4)[1] if len(svg.ticks(0, top, 4)) > 1 else top))
        rows = sorted(rows, key=lambda row: -row[1].value)
        bars = [{"part": part, "record": record, "mark": _mark(record, top)} for part, record in rows]
        blocks.append({"set": name, "metric": metric, "rows": bars, "top": top, "chance": rows[0][1].chance})
    return blocks


def _charts(run: RunFolder) -> list[dict[str, Any]]:
    charts = []
    axis = "samples" if all("samples" in row for row in run.steps) else "step"
    label = "pictures seen" if axis == "samples" else "steps"
    if run.steps:
        loss = svg.Line("loss", [(row[axis], row["loss"]) for row in run.steps])
        chance = svg.Line("chance", [(row[axis], row["chance"]) for row in run.steps if row.get("chance") is not None], "chance")
        drawn = svg.line_chart([chance, loss], "training loss beside the loss of guessing", label)
        legend = [("one", "training loss"), *([("chance", "guessing, ln(batch)")] if chance.points else [])]
        charts.append({"title": "Loss", "svg": drawn, "legend": legend})
    if run.validations:
        names = [name for name in dict.fromkeys(name for _, values in run.validations for name in values) if "[" not in name]
        names = [name for name in ("top1", "top5", "text_to_image_r@10", "image_to_text_r@10") if name in names][:2] or names[:2]
        place = _step_to_axis(run, axis)
        lines = [
            svg.Line(words.title(name), [(place(step), values[name]) for step, values in run.validations if name in values], style)
            for name, style in zip(names, ("one", "two"), strict=False)
        ]
        shares = all(0 <= y <= 1 for line in lines for _, y in line.points)
        drawn = svg.line_chart(lines, "validation while training", label, y_from_zero=shares, percent=shares)
        charts.append({"title": "Validation", "svg": drawn, "legend": [(line.style, line.name) for line in lines]})
    if run.steps and len(charts) < 2 and all("images_per_s" in row for row in run.steps):
        speed = svg.Line("pictures a second", [(row[axis], row["images_per_s"]) for row in run.steps])
        drawn = svg.line_chart([speed], "training speed", label, y_from_zero=True)
        charts.append({"title": "Speed", "svg": drawn, "legend": [("one", "pictures a second")]})
    return charts


def _step_to_axis(run: RunFolder, axis: str) -> Any:
    """Validation lines name steps only; the nearest training line says how many samples that was."""
    known = [(row["step"], row[axis]) for row in run.steps]
    if axis == "step" or not known:
        return lambda step: step
    return lambda step: min(known, key=lambda pair: abs(pair[0] - step))[1]


def _training(run: RunFolder) -> dict[str, Any] | None:
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


def _bytes(count: float) -> str:
    """``"512 MiB"`` or ``"1.4 GiB"``."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
