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
    family: Annotated[str | None, typer.Option("--family", help="Only this family.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="Only planned or only working methods.")] = None,
) -> None:
    """List every method: paper, status, claim as published, effect as measured here."""
    from diptych.core.catalogue import catalogue

    rows = catalogue(family, status)
    shown = [(row["id"], row["family"], row["status"], effect(row["measured"]), row["paper"]) for row in rows]
    working = sum(row["status"] == "working" for row in rows)
    out.result(rows, table("", ("id", "family", "status", "measured", "paper"), shown), f"{working} of {len(rows)} work here")


def effect(measured: dict | None) -> str:
    """``"0.031 [0.012, 0.050]"``, or nothing where nothing is measured."""
    if measured is None:
        return ""
    low, high = measured["interval"]
    return f"{measured['effect']:.3g} [{low:.3g}, {high:.3g}]"
