"""What verbs share in reading their arguments: a model before its images, images in folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diptych.core.errors import DiptychError, UsageError, nearest

PARTS = ("image", "caption", "label", "id", "root")
IMAGES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"))


def model_and_rest(items: Sequence[str], model: str | None, example: str) -> tuple[str, list[str]]:
    """The model's name and the other positionals: with ``--model`` all of them are inputs, else the first is the model.

    Raises:
        UsageError: nothing is left to work on.
    """
    name, rest = (model, list(items)) if model is not None else (items[0], list(items[1:]))
    if not rest:
        what = f"{name!r} is taken as the model" if model is None else "only a model is given"
        raise UsageError("inputs", f"{what}, and nothing follows it", f"For example {example}")
    return name, rest


def image_files(paths: Sequence[str]) -> list[Path]:
    """Image files as given, and the images inside folders (recursively, sorted).

    Raises:
        DiptychError: a path does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGES and file.is_file())
            if not inside:
                raise DiptychError(f"folder {path}", "it holds no image file", f"Known endings: {' '.join(sorted(IMAGES))}")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise DiptychError(f"image {path}", "no such file or folder", "Check the path")
    return found


def overrides(column: Sequence[str], split: str | None) -> dict[str, Any]:
    """What ``--column part=name`` and ``--split`` say, in the words of ``diptych.data.open``; captions may have several columns.

    Raises:
        UsageError: no ``=``, an unknown part, or one part twice.
    """
    found: dict[str, Any] = {} if split is None else {"split": split}
    for text in column:
        part, equals, name = text.partition("=")
        if not equals or not name:
            raise UsageError(
                f"--column {text!r}", "it does not say which column plays which part", "Write it as image=file or caption=title"
            )
        if part not in PARTS:
            raise UsageError(f"--column {text!r}", f"a sample has no part {part!r}", nearest(part, PARTS))
        if part == "caption":
            found["caption"] = (*found.get("caption", ()), name)
        elif part in found:
            raise UsageError(f"--column {text!r}", f"{part} is given twice", "Name one column for it")
        else:
            found[part] = name
    return found


def options_of(settings: Sequence[str], example: str) -> dict[str, Any]:
    """``NAME=VALUE`` settings as a mapping; values are YAML. Raises :class:`UsageError` with ``example`` for one that is not so written."""
    import yaml

    from diptych.engine.options import read_yaml

    options: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting!r}", "it has no '='", f"Write it as {example}")
        try:
            options[name.strip()] = read_yaml(value)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {setting!r}", "the value is no YAML", "Quote it") from error
    return options
