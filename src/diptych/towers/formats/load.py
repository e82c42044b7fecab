"""``load(name)`` and ``save(model, folder)``: one door for every format; what a path holds is recognised by its files."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Literal

from diptych.core.errors import DiptychError, UsageError, nearest
from diptych.core.registry import PACKAGE
from diptych.towers.dual import DualEncoder
from diptych.towers.formats.weights import PICKLES, read_json, refuse_pickle

MODELS = PACKAGE / "models"
Format = Literal["native", "open_clip", "huggingface", "openai"]
SAVERS = {"native": "save_native", "open_clip": "save_open_clip", "huggingface": "save_huggingface", "openai": "save_openai"}


def packaged() -> list[str]:
    """Names of the models that ship inside the package."""
    return sorted(path.parent.name for path in MODELS.glob("*/config.json"))


def load(name: str | Path) -> DualEncoder:
    """A model, ready to encode, in evaluation mode and float32.

    Args:
        name: ``"mini"`` or ``"pocket"`` (inside the package); a native, Hugging Face or open_clip folder; a
            ``.safetensors`` file with a ``.json`` of the same name beside it (open_clip) or with none (OpenAI's naming);
            ``"hf:ORG/NAME"``; ``"open_clip:ARCH/TAG"``.

    Raises:
        UsageError: nothing has that name.
        DiptychError: the model cannot be read, or computes something that this package would compute otherwise.
    """
    text = str(name)
    if text in packaged():
        return _module("native").load_native(MODELS / text)
    if text.startswith(("hf:", "open_clip:")):
        return load_path(_module("hub").download(text))
    path = Path(name)
    if not path.exists():
        why = "no shipped model and no path of that name"
        known = packaged()
        raise UsageError(
            f"model {text!r}", why, nearest(text, known) if known else "Give a model folder, hf:ORG/NAME or open_clip:ARCH/TAG"
        )
    return load_path(path)


def load_path(path: Path) -> DualEncoder:
    """The model in a folder or ``.safetensors`` file, by what lies there."""
    if path.is_file():
        refuse_pickle(path)
        if path.with_suffix(".json").is_file() or (path.parent / "open_clip_config.json").is_file():
            return _module("open_clip").load_open_clip(path)
        return _module("openai").load_openai(path)
    transformers_too = (path / "config.json").is_file() and (path / "model.safetensors").is_file()
    if (path / "open_clip_config.json").is_file() and (any(path.glob("open_clip*.safetensors")) or not transformers_too):
        return _module("open_clip").load_open_clip(path)
    if (path / "config.json").is_file():
        native = read_json(path / "config.json").get("format") == "diptych"
        return _module("native").load_native(path) if native else _module("huggingface").load_huggingface(path)
    if len(found := sorted(path.glob("*.safetensors"))) == 1:
        return load_path(found[0])
    names = sorted(child.name for child in path.iterdir())
    for child in names:
        if child.endswith(PICKLES):
            refuse_pickle(path / child)
    why = f"no config.json, open_clip_config.json or single .safetensors file among {', '.join(names[:5]) or 'no files'}"
    raise DiptychError(f"model {path}", why, "Point at a model folder")


def save(model: DualEncoder, folder: str | Path, format: Format = "native", **options: object) -> Path:
    """Write ``model`` into ``folder``; see each format's own function for its options.

    Args:
        format: ``"native"`` (``dtype``, ``card``), ``"open_clip"``, ``"huggingface"`` or ``"openai"``.

    Raises:
        UsageError: no format of that name.
        DiptychError: the format cannot express what the model computes, or the folder cannot be written.
    """
    if format not in SAVERS:
        raise UsageError(f"format {format!r}", "no format of that name", nearest(format, SAVERS))
    if model.head is not None and format != "native":
        why = f"{format} has no place for its head ({len(model.head.classes)} classes)"
        raise DiptychError(f"saving {model.config.name!r}", why, "Save it as native, or without the head: model.with_head(None)")
    for part in ("prompts", "rule"):
        if getattr(model, part) is not None and format != "native":
            why = f"{format} has no place for its {part}"
            raise DiptychError(f"saving {model.config.name!r}", why, f"Save it as native, or without: model.with_{part}(None)")
    return getattr(_module(format), SAVERS[format])(model, folder, **options)


def _module(name: str):
    return importlib.import_module(f"diptych.towers.formats.{name}")
