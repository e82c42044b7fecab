"""``diptych evaluate``: how good is a model on data, beside chance."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from diptych.cli.output import Output, output_folder, records_table
from diptych.cli.verb import verb

NAME = "evaluate"
EMBEDDED = ("pictograms", "pictograms/unseen", "pictograms/groups")


@verb
def command(
    out: Output,
    model: Annotated[str, typer.Argument(help="Model: a name, a folder, hf:… or open_clip:…", show_default=False)],
    data: Annotated[
        list[str], typer.Argument(help="Paths or names of sets; the embedded sets unless said otherwise.", show_default=False)
    ] = [],  # noqa: B006
    baseline: Annotated[str | None, typer.Option("--baseline", help="A second model: adds gain and retention.")] = None,
    suite: Annotated[
        str | None, typer.Option("--suite", help="quick or full: every protocol of it that fits; without DATA on the embedded sets.")
    ] = None,
    folder: Annotated[Path, typer.Option("--out", help="Folder for records.jsonl and report.html.")] = Path("runs/evaluate"),
    protocol: Annotated[list[str], typer.Option("--protocol", help="Only this protocol, such as zero_shot; may repeat.")] = [],  # noqa: B006
    template: Annotated[list[str], typer.Option("--template", help="Prompt with {} for the class name; repeat to average.")] = [],  # noqa: B006
    captions: Annotated[
        Path | None,
        typer.Option("--captions", help="Words that the model was trained on (a caption a line): accuracy by how often they name."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=2, help="At most this many samples of each set, drawn by the seed.")] = None,
    tokens: Annotated[str | None, typer.Option("--tokens", help="A token method for the pictures, such as tome or pitome.")] = None,
    settings: Annotated[list[str], typer.Option("--set", help="Option of the token method, such as ratio=0.5; may repeat.")] = [],  # noqa: B006
    seed: Annotated[int, typer.Option("--seed", help="Seed of the bootstrap and of --limit.")] = 0,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Pictures encoded at a time.")] = 64,
    again: Annotated[bool, typer.Option("--again", help="Measure anew what the folder of --out holds already.")] = False,
) -> None:
    """Measure a model: each number with its interval and its chance level, and a page that shows them."""
    from diptych.evaluate.run import evaluate

    subject: Any = model
    if tokens is not None or settings:
        from diptych.cli.thinned import thinned

        subject = thinned(model, tokens, settings)
    records = evaluate(
        subject,
        list(data) or (None if suite else list(EMBEDDED)),
        baseline=baseline,
        suite=suite,
        protocols=protocol or None,
        templates=template or None,
        captions=captions,
        limit=limit,
        seed=seed,
        out=output_folder(folder, "runs/evaluate-2"),
        command=shlex.join(["diptych", *sys.argv[1:]]),
        batch_size=batch,
        again=again,
        progress=out.log.is_terminal,
        say=out.say if suite else None,
    )
    rows = [record.as_dict() for record in records]
    out.result(rows, records_table(rows), f"report: {folder / 'report.html'}")
