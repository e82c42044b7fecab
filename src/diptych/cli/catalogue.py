"""``diptych catalogue``: what is published, what works here, what was measured."""

from __future__ import annotations

from typing import Annotated

import typer

from diptych.cli.output import Output, table
from diptych.cli.verb import verb

NAME = "catalogue"


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
        out.result(rows, *told(rows[0]))
        return
    shown = [(row["id"], row["family"], row["status"], effect(row["measured"]), row["paper"]) for row in rows]
    working = sum(row["status"] == "working" for row in rows)
    out.result(rows, table("", ("id", "family", "status", "measured", "paper"), shown), f"{working} of {len(rows)} work here")


def told(row: dict) -> list[str]:
    """One method in full, a line a fact."""
    measured = row["measured"]
    facts = {"paper": row["paper"], "status": row["status"], "claim": row["claim"] or "none in the catalogue"}
    facts["measured"] = "not yet" if measured is None else f"{effect(measured)}, {measured['seeds']} seeds"
    if measured is not None:
        facts["command"] = measured["command"]
    return [f"{row['name']} ({row['id']}, {row['family']})", *(f"{name + ':':<10}{value}" for name, value in facts.items())]


def effect(measured: dict | None) -> str:
    """``"0.031 [0.012, 0.050]"``, or nothing where nothing is measured."""
    if measured is None:
        return ""
    low, high = measured["interval"]
    return f"{measured['effect']:.3g} [{low:.3g}, {high:.3g}]"
