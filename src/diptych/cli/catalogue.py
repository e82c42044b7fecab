"""``diptych catalogue``: what is published, what works here, what was measured."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from diptych.cli.output import Output, table
from diptych.cli.verb import verb

NAME = "catalogue"
SHORTEST = 16  # characters of a paper's title that are worth a column
UNITS = "effects with 95 % intervals over seeds, shares and reciprocal ranks in percent points"


@verb
def command(
    out: Output,
    method: Annotated[str | None, typer.Argument(help="Tell one method in full.", show_default=False)] = None,
    family: Annotated[str | None, typer.Option("--family", help="Only this family.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="Only planned or only working methods.")] = None,
) -> None:
    """List every method: paper, status, claim as published, effect as measured here."""
    from diptych.core.catalogue import catalogue

    rows = catalogue(family, status, method)
    if method is not None:
        out.result(rows, *in_full(rows[0]))
        return
    working = sum(row["status"] == "working" for row in rows)
    out.result(rows, listing(rows, out.width), f"{working} of {len(rows)} work here; {UNITS}")


def listing(rows: list[dict[str, Any]], width: int) -> Table:
    """One line a method; titles of papers are cut where the window ends, and left out where little of them would be left."""
    from diptych.core.claims import effect

    shown = []
    for row in rows:
        found = row["measured"]
        told = "" if found is None else f"{found['verdict']:<5} {effect(found)}"
        shown.append((row["id"], row["family"], row["status"], told))
    columns = ("id", "family", "status", "measured")
    used = sum(2 + max([len(name), *(len(row[i]) for row in shown)]) for i, name in enumerate(columns))
    if (room := width - used) >= SHORTEST:
        papers = [row["paper"] if len(row["paper"]) <= room else row["paper"][: room - 1] + "…" for row in rows]
        return table("", (*columns, "paper"), [(*row, paper) for row, paper in zip(shown, papers, strict=True)])
    return table("", columns, shown)


def in_full(row: dict[str, Any]) -> list[Any]:
    """One method: a line a fact, and a table of what was compared."""
    from diptych.core.claims import effect, number

    found = row["measured"]
    facts = {"paper": row["paper"], "status": row["status"], "claim": row["claim"] or "none in the catalogue"}
    if found is None:
        facts["measured"] = "not yet"
    else:
        facts["published"] = found["published"] or "no figure"
        facts["measured"] = f"{found['metric']} {effect(found)}, {found['seeds']} seeds: {found['verdict']}"
        facts["command"] = found["command"]
    lines = [f"{row['name']} ({row['id']}, {row['family']})", *(f"{name + ':':<11}{value}" for name, value in facts.items())]
    if found is None:
        return lines
    compared = [
        (
            " against ".join(reversed(each["names"])),
            each["metric"],
            number(each["baseline"], each["metric"]),
            number(each["method"], each["metric"]),
            effect(each),
            each["verdict"],
            "" if each["cost_ratio"] is None else f"{each['cost_ratio']:.2f}x",
        )
        for each in found["comparisons"]
    ]
    columns = ("compared", "metric", ">baseline", ">method", ">effect", "verdict", ">cost")
    return [*lines, table("", columns, compared), f"{UNITS}; every number, seed and note: docs/claims.md"]
