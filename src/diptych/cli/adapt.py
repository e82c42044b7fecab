"""``diptych adapt``: a few labelled pictures make a better model for their classes, and what it kept is said."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from diptych.cli.inputs import options_of
from diptych.cli.output import Output, output_folder, table
from diptych.cli.verb import verb
from diptych.core.errors import UsageError

NAME = "adapt"
NEEDS = ("labels", "unlabelled", "captions")
MEASURED_ON = "measured with mini on kinds of drawings in unseen styles, 16 labelled pictures a class; docs/adapt-methods.md has the rest"


@verb
def command(
    out: Output,
    model: Annotated[str | None, typer.Argument(help="Model: a name, a folder, hf:… or open_clip:…", show_default=False)] = None,
    data: Annotated[
        str | None, typer.Argument(help="Labelled pictures: class folders, a table, or a set's name.", show_default=False)
    ] = None,
    method: Annotated[str, typer.Option("--method", help="A method of --list; auto compares the fast ones by cross-validation.")] = "auto",
    shots: Annotated[
        int | None, typer.Option("--shots", min=0, help="Labelled pictures of each class; all of them by default, 0 for none.")
    ] = None,
    test: Annotated[str | None, typer.Option("--test", help="Measure on this instead of the data's own test split.")] = None,
    unlabelled: Annotated[
        str | None, typer.Option("--unlabelled", help="Pictures without labels; 'test' takes the test pictures (transductive).")
    ] = None,
    lose_at_most: Annotated[
        float | None, typer.Option("--lose-at-most", help="Points of top-1 that may be lost elsewhere; beyond, it goes back to the parent.")
    ] = None,
    keep: Annotated[list[str], typer.Option("--keep", help="Set that retention is measured on; may repeat.")] = [],  # noqa: B006
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Measure on at most this many test pictures, drawn by the seed.")
    ] = None,
    settings: Annotated[list[str], typer.Option("--set", help="Option of the method, such as alpha=0.1; may repeat.")] = [],  # noqa: B006
    folder: Annotated[Path, typer.Option("--out", help="Folder for the model, records.jsonl and report.html.")] = Path("runs/adapt"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of every draw.")] = 0,
    listed: Annotated[bool, typer.Option("--list", help="Show the methods and stop.")] = False,
) -> None:
    """Adapt a model to labelled pictures; prints what it gained on test pictures and what it kept elsewhere."""
    if listed:
        rows = list_rows()
        columns = ("method", "needs", ">numbers", ">gain, points", ">kept", ">seconds", "name")
        out.result(rows, table("", columns, [shown(row) for row in rows]), MEASURED_ON if any(row["measured"] for row in rows) else "")
        return
    if model is None or data is None:
        raise UsageError("adapt", "it needs a model and labelled pictures", "For example: diptych adapt mini photos/ --method auto")
    from diptych import save
    from diptych.recipes.adapt import KEPT, adapt

    folder = output_folder(folder, "runs/adapt-2")
    found = adapt(
        model,
        data,
        method=method,
        options=options_of(settings, "alpha=0.1"),
        shots=shots,
        test=test,
        unlabelled=unlabelled,
        lose_at_most=lose_at_most,
        keep=tuple(keep) or None,
        limit=limit,
        seed=seed,
        out=folder,
        command=shlex.join(["diptych", *sys.argv[1:]]),
        progress=out.log.is_terminal,
        say=out.say,
    )
    save(found.model, folder / "model")
    summary = found.summary(str(folder / "model"))
    out.result(summary, *told(summary, found.gain.set, folder, keep or KEPT))


def told(summary: dict[str, Any], name: str, folder: Path, keep: Sequence[str]) -> list[str]:
    """What was gained on the data called ``name``, from what, and what was kept, for people."""
    low, high = summary["gain_interval"]
    each = summary["milliseconds"]
    labelled = f"{summary['shots']:,} labelled pictures" if summary["shots"] else "no labelled picture"
    return [
        f"{summary['method']}: {100 * summary['gain']:+.1f} points top-1 on {name} "
        f"(95% interval {100 * low:+.1f} to {100 * high:+.1f}), "
        f"from {labelled} in {summary['seconds']:.1f} s, {summary['trainable']:,} numbers",
        *([] if each is None else [f"one picture: {each['rule']:.1f} ms by the rule, {each['plain']:.1f} ms by the plain model"]),
        f"kept elsewhere: {100 * summary['retention']:.1f}% of what the parent got right ({', '.join(keep)})",
        f"model: {folder / 'model'}   report: {folder / 'report.html'}",
    ]


def list_rows() -> list[dict[str, Any]]:
    """One row a method: id, name, what it needs, which options are chosen by cross-validation, the paper, and what was measured."""
    from diptych.core.catalogue import adaptations
    from diptych.engine.fewshot import methods

    measured, rows = adaptations(), []
    for entry in methods():
        module, card = entry.load(), entry.card
        rows.append(
            {
                "method": entry.id,
                "name": card.name,
                "needs": sorted(need for need in card.needs if need in NEEDS) or ["none"],
                "grid": sorted(module.GRID),
                "paper": card.paper,
                "measured": measured.get(entry.id),
            }
        )
    return rows


def shown(row: dict[str, Any]) -> tuple[str, ...]:
    """One row for people."""
    found, needs = row["measured"], ", ".join(row["needs"])
    if found is None:
        return row["method"], needs, "", "", "", "", row["name"]
    low, high = found["interval"]
    gain = f"{100 * found['gain']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return row["method"], needs, f"{found['trainable']:,}", gain, f"{100 * found['retention']:.0f}%", f"{found['seconds']:.1f}", row["name"]
