"""``diptych classify``: which of these words fits a picture best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.inputs import image_files, model_and_rest
from diptych.cli.output import Output, table
from diptych.cli.verb import verb
from diptych.core.errors import DiptychError, UsageError

NAME = "classify"
NONE = "none of these"


@verb
def command(
    out: Output,
    items: Annotated[
        list[str], typer.Argument(metavar="[MODEL] IMAGES...", help="Model, then image files or folders.", show_default=False)
    ],
    labels: Annotated[str, typer.Option("--labels", help="Labels, separated by commas.")] = "",
    labels_file: Annotated[Path | None, typer.Option("--labels-file", help="A text file with one label a line.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Model; then every positional is an image.")] = None,
    template: Annotated[list[str], typer.Option("--template", help="Prompt with {} for the label; repeat for an ensemble.")] = [],  # noqa: B006
    none_below: Annotated[
        float | None, typer.Option("--none-below", min=0, max=1, help="Answer none of these below this probability.")
    ] = None,
) -> None:
    """Label pictures with your own words: one row an image, with a probability."""
    name, rest = model_and_rest(items, model, "diptych classify mini photo.jpg --labels cat,dog")
    known = read_labels(labels, labels_file)
    bad = [text for text in template if "{}" not in text]
    if bad:
        raise UsageError(
            f"--template {bad[0]!r}", "it has no place for the label", "Write {} where the label goes, as in 'a photo of a {}'"
        )
    paths = image_files(rest)

    from diptych import load

    classifier = load(name).classifier(known, templates=tuple(template) or None)
    answers, probabilities = classifier.predict(paths, none_below=none_below)
    rows = [
        {"image": str(path), "label": label, "probability": round(float(probability), 6)}
        for path, label, probability in zip(paths, answers, probabilities, strict=True)
    ]
    shown = [(row["image"], NONE if row["label"] is None else row["label"], f"{row['probability']:.3f}") for row in rows]
    out.result(rows, table("", ("image", "label", ">probability"), shown))


def read_labels(labels: str, file: Path | None) -> list[str]:
    """The labels of the call, in order. Raises :class:`UsageError` when there are none, both ways are used, or one repeats."""
    if bool(labels) == (file is not None):
        raise UsageError("labels", "give them one way, in --labels or in --labels-file", "For example --labels cat,dog")
    if file is not None and not file.is_file():
        raise DiptychError(f"labels file {file}", "no such file", "Give a text file with one label a line")
    found = file.read_text(encoding="utf-8").splitlines() if file is not None else labels.split(",")
    known = [label.strip() for label in found if label.strip()]
    if not known:
        raise UsageError("labels", "the list is empty", "For example --labels cat,dog")
    twice = [label for label in dict.fromkeys(known) if known.count(label) > 1]
    if twice:
        raise UsageError(f"label {twice[0]!r}", "it is given twice", "Give each label once")
    return known
