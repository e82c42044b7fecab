"""``diptych classify``: which of these words fits a picture best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    labels: Annotated[str, typer.Option("--labels", help="Labels, separated by commas; an adapted model has its own.")] = "",
    labels_file: Annotated[Path | None, typer.Option("--labels-file", help="A text file with one label a line.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Model; then every positional is an image.")] = None,
    template: Annotated[list[str], typer.Option("--template", help="Prompt with {} for the label; repeat for an ensemble.")] = [],  # noqa: B006
    top: Annotated[int, typer.Option("--top", min=1, help="How many labels to show for each image.")] = 1,
    none_below: Annotated[
        float | None, typer.Option("--none-below", min=0, max=1, help="Answer none of these below this probability.")
    ] = None,
) -> None:
    """Label pictures with your own words: one row an image, with a probability."""
    name, rest = model_and_rest(items, model, "diptych classify mini photo.jpg --labels cat,dog")
    given = bool(labels) or labels_file is not None
    known = read_labels(labels, labels_file) if given else None

    from diptych import load

    loaded = load(name)
    known = known or (None if template else own_labels(loaded)) or read_labels(labels, labels_file)
    paths = image_files(rest)
    classifier = loaded.classifier(known, templates=tuple(template) or None)
    answers, chances_NK = classifier.predict(paths, none_below=none_below)
    rows = []
    for path, answer, chance_K in zip(paths, answers, chances_NK, strict=True):
        value_T, at_T = chance_K.topk(min(top, len(known)))
        best = [{"label": known[at], "probability": round(value, 6)} for value, at in zip(value_T.tolist(), at_T.tolist(), strict=True)]
        rows.append({"image": str(path), "label": answer, "probability": best[0]["probability"], "top": best})
    out.result(rows, table("", ("image", "label", ">probability"), [line for row in rows for line in lines(row)]))


def lines(row: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The table's lines of one image: its answer, then the next best labels."""
    first, *more = row["top"]
    name = NONE if row["label"] is None else row["label"]
    head = [(row["image"], name, f"{first['probability']:.3f}")]
    if row["label"] is None:
        more = row["top"] if more else []
    return head + [("", item["label"], f"{item['probability']:.3f}") for item in more]


def own_labels(model: Any) -> list[str] | None:
    """The classes that the model was adapted to; None where it was not."""
    found = next((part.classes for part in (model.rule, model.head) if part is not None and part.classes), None)
    return None if found is None else list(found)


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
