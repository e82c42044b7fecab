"""What verbs share in reading their arguments: a model before its images, images in folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diptych.core.errors import DiptychError, UsageError

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
