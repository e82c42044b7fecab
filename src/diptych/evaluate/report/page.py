"""Folds a run folder into one self-contained page: style, script, charts and pictures are inside, nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import os
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from diptych import __version__
from diptych.core.errors import DiptychError
from diptych.evaluate.report import svg, training, verdict, words
from diptych.evaluate.report.content import Content, mark
from diptych.evaluate.report.source import RunFolder, read

HERE = files("diptych.evaluate.report")
TEMPLATES = ("page.html.j2", "body.html.j2", "aspect.html.j2", "parts.html.j2")


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


class Gallery:
    """The pictures that the page shows, each once, however often it is placed: a rule of the style sheet a picture."""

    def __init__(self, run: RunFolder) -> None:
        self.run, self.addresses = run, dict[str, str]()

    def place(self, name: str | None) -> str:
        """The class of a picture; "" where there is none. Raises :class:`DiptychError` for one that is not in the folder."""
        if name is None:
            return ""
        if name not in self.addresses:
            self.addresses[name] = self.run.picture(name)
        return "p-" + name.partition(".")[0]

    def rules(self) -> Markup:
        """The rules of all pictures that were placed."""
        rule = Markup(".p-{}{{background-image:url({})}}")
        return Markup("\n").join(rule.format(name.partition(".")[0], address) for name, address in self.addresses.items())


def render(run: RunFolder) -> str:
    """The page as text."""
    script = _asset("script.js")
    gallery = Gallery(run)
    environment = Environment(
        loader=DictLoader({name: _asset(name) for name in TEMPLATES}),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"percent": words.percent, "between": words.between, "number": svg.number, "bytes": _bytes}
    environment.filters |= {"title_of": words.title, "times": words.times_chance, "meaning": words.meaning, "shown": words.shown}
    environment.filters |= {"change": lambda record: words.change(record.value, record), "changes": words.changes}
    environment.filters |= {"chance": lambda record: words.value_of(record.chance, record), "direction": words.direction}
    environment.filters["name_of"] = words.name
    environment.filters["marker"] = lambda style: svg.marker(style, 13, 5)
    environment.globals["placed"] = gallery.place
    content = _content(run)
    body = Markup(environment.get_template("body.html.j2").render(**content))
    page = environment.get_template("page.html.j2").render(
        style=Markup(_asset("style.css")) + gallery.rules(),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        body=body,
        **content,
    )
    return svg.plain(page)


def _asset(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _content(run: RunFolder) -> dict[str, Any]:
    content = Content(run)
    told = verdict.sentences(content.records, content.classes, content.baseline, content.others) if content.records else []
    aspects = content.aspects()
    notes = [note for section in content.sections for note in section.get("notes", ())]
    versions = dict.fromkeys((record.set, record.version) for record in content.records)
    return {
        "name": run.path.resolve().name,
        "made": datetime.now(UTC).strftime("%-d %B %Y, %H:%M UTC"),
        "version": __version__,
        "model": content.model,
        "baseline": content.baseline,
        "compared": content.compared(),
        "others": list(content.others),
        "verdict": told,
        "heads": [{"record": record, "mark": mark(record)} for record in words.heads(content.records)],
        "overview": content.overview(),
        "aspects": aspects,
        "failures": run.failures,
        "notes": list(dict.fromkeys([*notes, *content.wrong])),
        "charts": training.charts(run),
        "training": training.summary(run),
        "speed": next((section["speed"] for section in reversed(content.sections) if section.get("speed")), None),
        "recipe": run.recipe,
        "commands": list(dict.fromkeys(record.command for record in run.records if record.command)),
        "seeds": sorted({record.seed for record in run.records}),
        "versions": list(versions),
        "records": run.records,
    }


def _bytes(count: float) -> str:
    """``"512 MiB"`` or ``"1.4 GiB"``."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
