"""``diptych inspect``: what is in this data, before any training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.inputs import overrides
from diptych.cli.output import Output
from diptych.cli.verb import verb
from diptych.core.errors import UsageError

NAME = "inspect"
CONTEXT = 77


@verb
def command(
    out: Output,
    data: Annotated[str, typer.Argument(help="Folder, table, tar shards, or the name of a set.", show_default=False)],
    model: Annotated[str | None, typer.Option("--model", help="Model whose tokenizer and context count the captions that are cut.")] = None,
    context: Annotated[int | None, typer.Option("--context", min=1, help="Tokens a caption may have, 77 unless said otherwise.")] = None,
    column: Annotated[list[str], typer.Option("--column", help="Part of a sample and its column: image=file, caption=title.")] = [],  # noqa: B006
    split: Annotated[str | None, typer.Option("--split", help="Which split, where there are several.")] = None,
    ranks: Annotated[int, typer.Option("--ranks", min=1, help="Processes that will train.")] = 1,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Reading workers of each process.")] = 1,
    streamed: Annotated[bool, typer.Option("--streamed", help="Fail when there are fewer tars than readers.")] = False,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="Time to look; larger sets are sampled.")] = 4.0,
    samples: Annotated[Path | None, typer.Option("--samples", help="Save the samples shown as a PNG.")] = None,
) -> None:
    """Look at data: counts, samples, caption lengths, cut captions, duplicates, broken files."""
    if model is not None and context is not None:
        raise UsageError("--context", "the model has a context of its own", "Give --model or --context")
    named = overrides(column, split)

    from diptych.data.open import open as open_data
    from diptych.data.preflight import inspect
    from diptych.data.preflight_view import render, save_strip

    dataset = open_data(data, **named)
    tokenize = None
    if model is not None:
        from diptych import load

        tokenize = load(model).tokenizer
        if tokenize is None:
            raise UsageError(f"model {model!r}", "it has no tokenizer", "Give --context")
        context = tokenize.config.context
    found = inspect(dataset, tokenize, context or CONTEXT, ranks, workers, shards="error" if streamed else "note", seconds=seconds)
    row = found.as_dict()
    if samples is not None:
        row["samples_image"] = str(save_strip(found, samples))
    out.result(row, render(found, pictures=out.terminal), *([f"samples: {samples}"] if samples else []))
