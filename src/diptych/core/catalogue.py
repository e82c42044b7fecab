"""The catalogue: every published method the project knows, whether it works here, and what was measured.

``catalogue.tsv`` lists the methods; a card in the registry makes a row ``"working"``; a line of ``claims.jsonl`` fills
``"measured"``. Cards are read from syntax trees, so a listing imports no method and no torch.
"""

from __future__ import annotations

import ast
import csv
import importlib.util
import json
from pathlib import Path
from typing import Any

from diptych.core.claims import comparisons, records
from diptych.core.errors import UsageError, nearest
from diptych.core.registry import PACKAGE, Entry, entries

MEASURED_KEYS = ("effect", "interval", "seeds", "command", "metric", "verdict", "published")
COMPARED_KEYS = ("names", "metric", "baseline", "method", "effect", "interval", "verdict", "cost_ratio", "start", "budget", "note")


def listed() -> list[dict[str, str]]:
    """Rows of ``catalogue.tsv`` in file order: id, name, title, kind, family, tier, mechanism, claim, check."""
    with (PACKAGE / "catalogue.tsv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def card_text(entry: Entry) -> dict[str, str]:
    """The string fields of a card, read from its file's syntax tree without importing it."""
    spec = importlib.util.find_spec(entry.module)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the file of {entry.module}")
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(target, ast.Name) and target.id == "CARD" and isinstance(node.value, ast.Call):  # type: ignore[union-attr]
            pairs = {key.arg: key.value for key in node.value.keywords if key.arg}  # type: ignore[union-attr]
            return {name: v.value for name, v in pairs.items() if isinstance(v, ast.Constant) and isinstance(v.value, str)}
    raise ValueError(f"{entry.module} declares no CARD")


def records_file(name: str) -> Path | None:
    """Where measured numbers of this name are kept: beside the package's data, or in ``docs/`` of a source checkout; None without any."""
    checkout = PACKAGE.parent.parent
    places = [PACKAGE / name]
    if (checkout / "pyproject.toml").is_file():
        places.append(checkout / "docs" / name)
    return next((place for place in places if place.is_file()), None)


def claims_file() -> Path | None:
    """Where measured claims are kept."""
    return records_file("claims.jsonl")


def adaptations() -> dict[str, dict[str, Any]]:
    """By method id what adaptation gained on the embedded drawings, at the most labelled pictures that were measured.

    Keys ``shots, gain, interval, retention, trainable, seconds, about``; see ``benchmarks/adapt_shots.py``. Empty without a file.
    """
    path, found = records_file("adapt.jsonl"), {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path else []
    for row in sorted((row for row in rows if row["world"] == "kinds"), key=lambda row: row["shots"]):
        found[row["method"]] = {key: row[key] for key in ("shots", "gain", "interval", "retention", "trainable", "seconds", "about")}
    return found


def measured(path: Path | None) -> dict[str, dict[str, Any]]:
    """By method id what was measured: the metric that its claim is about and, as ``comparisons``, the first metric of each comparison.

    Keys as in :mod:`diptych.core.claims`: ``effect, interval, seeds, command, metric, verdict, published``; of a comparison ``names,
    metric, baseline, method, effect, interval, verdict, cost_ratio, start, budget, note``. Empty without a file.
    """
    found = {}
    for identity, rows in records(path).items():
        compared = [{key: part[0][key] for key in COMPARED_KEYS} for part in comparisons(rows)]
        found[identity] = {**{key: rows[0][key] for key in MEASURED_KEYS}, "comparisons": compared}
    return found


def catalogue(family: str | None = None, status: str | None = None, identity: str | None = None) -> list[dict[str, Any]]:
    """Every known method, in the stable form of ``diptych catalogue --json``.

    Args:
        family: keep one family, by the catalogue's name (``"ssl"``) or by a card's (``"objective"``).
        status: keep ``"planned"`` or ``"working"`` rows.
        identity: keep the method of this id.

    Returns:
        Dictionaries with the keys ``id, name, family, paper, status, claim, measured``; methods of the registry that the
        list does not name come last.

    Raises:
        UsageError: no method is of that family or has that id, or the status is neither of the two.
    """
    results, cards = measured(claims_file()), {entry.id: entry for entry in entries()}
    rows = [{**row, "paper": row["title"] or row["name"], "card_family": getattr(cards.get(row["id"]), "family", "")} for row in listed()]
    known = {row["id"] for row in rows}
    for entry in (entry for entry in entries() if entry.id not in known):
        rows.append({"name": entry.id, "paper": "", "claim": "", **card_text(entry), "card_family": entry.family})
    if family is not None and not any(family in (row["family"], row["card_family"]) for row in rows):
        raise UsageError(f"family {family!r}", "no method is of that family", nearest(family, {row["family"] for row in rows}))
    if status not in (None, "planned", "working"):
        raise UsageError(f"status {status!r}", "a method is planned or working", nearest(str(status), ("planned", "working")))
    out = [
        {
            **{key: row[key] for key in ("id", "name", "family", "paper")},
            "status": "working" if row["id"] in cards else "planned",
            "claim": row["claim"],
            "measured": results.get(row["id"]),
        }
        for row in rows
        if family in (None, row["family"], row["card_family"])
    ]
    if identity is not None and not any(row["id"] == identity for row in out):
        raise UsageError(f"method {identity!r}", "no method of that name", nearest(identity, [row["id"] for row in out]))
    return [row for row in out if status in (None, row["status"]) and identity in (None, row["id"])]
