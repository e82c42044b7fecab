"""Folds what a run folder holds into what the page says: overview, aspects, sets, figures."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from diptych.core.types import Record
from diptych.evaluate.report import drawing, figures, svg, words
from diptych.evaluate.report.source import RunFolder

BESIDE = 3  # other models that get a column


class Content:
    """One model of a run folder: the one that was evaluated last, and what others are set beside it.

    Args:
        run: the folder.
    """

    def __init__(self, run: RunFolder) -> None:
        names = list(dict.fromkeys(record.model for record in run.records))
        self.model = names[-1] if names else ""
        self.records = [record for record in run.records if record.model == self.model]
        self.others = {name: [r for r in run.records if r.model == name] for name in names[-1 - BESIDE : -1]}
        self.sections = [section for section in run.sections if section["model"] == self.model]
        self.of = {(section["set"], section["protocol"]): section for section in self.sections}
        self.known = {(r.model, r.set, r.protocol, r.metric): r for r in run.records}
        self.classes = {section["set"]: section["classes"] for section in self.sections if "classes" in section}
        self.about = {section["set"]: section.get("about", "") for section in self.sections}
        self.main = words.main_records(self.records)
        self.baseline = words.listed(list(dict.fromkeys(s["baseline"] for s in self.sections if s.get("baseline"))))
        self.wrong: list[str] = []

    def compared(self) -> bool:
        """Some number has a gain against a baseline."""
        return any(words.split(record.metric)[2] == "gain" for record in self.records)

    def row(self, record: Record) -> dict[str, Any]:
        """A number beside chance, its baseline and the other models."""
        gain, kept = (self._find(record, self.model, f"{record.metric}.{kind}") for kind in words.KINDS)
        return {
            "record": record,
            "mark": mark(record) if words.about(record).share else None,
            "standing": words.standing(record),
            "gain": gain,
            "kept": kept,
            "before": None if gain is None else words.value_of(record.value - gain.value, record),
            "others": [self._find(record, name, record.metric) for name in self.others],
        }

    def _find(self, like: Record, model: str, metric: str) -> Record | None:
        return self.known.get((model, like.set, like.protocol, metric))

    def overview(self) -> list[dict[str, Any]]:
        """The main number of each protocol and set, by aspect."""
        found: dict[str, list[dict[str, Any]]] = {}
        for record in self.main:
            found.setdefault(words.aspect(record.protocol), []).append(self.row(record))
        return [{"aspect": name, "rows": rows} for name, rows in found.items()]

    def aspects(self) -> list[dict[str, Any]]:
        """For each aspect its protocols, for each of these its sets with all numbers, groups and figures."""
        found: dict[str, list[dict[str, Any]]] = {}
        for protocol in dict.fromkeys(record.protocol for record in self.main):
            found.setdefault(words.aspect(protocol), []).append(self._protocol(protocol))
        return [{"title": name, "id": f"aspect-{place}", "protocols": each} for place, (name, each) in enumerate(found.items())]

    def _protocol(self, protocol: str) -> dict[str, Any]:
        module = words.protocols().get(protocol)
        told = {"name": words.name(protocol), "about": "", "paper": ""}
        if module is not None:
            about = (inspect.getdoc(module) or "").partition("\n")[0]
            told |= {"about": about.partition(": ")[2] or about, "paper": module.CARD.paper}
        return told | {"sets": [self._set(protocol, main) for main in self.main if main.protocol == protocol]}

    def _set(self, protocol: str, main: Record) -> dict[str, Any]:
        records = [r for r in self.records if (r.protocol, r.set) == (protocol, main.set)]
        section = self.of.get((main.set, protocol), {})
        whole = [self.row(record) for record in records if words.split(record.metric)[1:] == ("", "")]
        return {
            "name": main.set,
            "about": self.about.get(main.set, ""),
            "version": main.version,
            "main": main,
            "rows": whole,
            "compared": any(row["gain"] for row in whole),
            "parts": parts(records),
            "figures": self._figures(section, protocol, main.set),
            "retrieval": section if section.get("text_to_image") else None,
        }

    def _figures(self, section: Mapping[str, Any], protocol: str, name: str) -> list[drawing.Drawn]:
        given, wrong = figures.read(section.get("figures", ()))
        beside, wrong_beside = figures.read(section.get("baseline_figures", ()))
        self.wrong += [f"{protocol} on {name}: {line}" for line in dict.fromkeys([*wrong, *wrong_beside])]
        theirs = {(figure.kind, figure.title): figure for figure in beside}
        names = (self.model, section.get("baseline", "baseline"))
        return [drawing.draw(figure, names, theirs.get((figure.kind, figure.title))) for figure in given]


def mark(record: Record, top: float = 1.0, bottom: float = 0.0) -> svg.Markup:
    """The bar of a number, its interval and chance."""
    return svg.interval_mark(record.value, record.interval, record.chance, words.measured(record), top=top, bottom=bottom)


def parts(records: Sequence[Record]) -> list[dict[str, Any]]:
    """For each metric of which parts were measured: a bar a part, best first, on a scale that the widest interval fills."""
    found: dict[str, list[tuple[str, Record]]] = {}
    for record in records:
        metric, part, kind = words.split(record.metric)
        if part and not kind:
            found.setdefault(metric, []).append((part, record))
    blocks = []
    for rows in found.values():
        first = rows[0][1]
        bottom, top = drawing.scale([bound for _, record in rows for bound in (*record.interval, record.value)])
        rows = sorted(rows, key=lambda row: row[1].value, reverse=words.about(first).better != "lower")
        bars = [{"part": words.part(part), "record": record, "mark": mark(record, top, bottom)} for part, record in rows]
        scale = f"{words.value_of(bottom, first)} to {words.value_of(top, first)}"
        blocks.append({"record": first, "rows": bars, "scale": scale})
    return blocks
