"""Reading and writing weights: safetensors only, written under a temporary name first; differences are errors that name both sides."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diptych.core.errors import DiptychError

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def some(names: Iterable[str], most: int = 3) -> str:
    """The first few names, and how many there are beside them."""
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


def refuse_pickle(path: Path) -> None:
    """A :class:`DiptychError` for a file that is not safetensors: a pickle may run code when it is opened."""
    if path.suffix != ".safetensors":
        raise DiptychError(
            f"weights {path}",
            f"{path.suffix or 'a file without suffix'} is not safetensors, and a pickle can run code when it is read",
            "Convert it where you trust it: safetensors.torch.save_file(torch.load(PATH, weights_only=True), 'model.safetensors')",
        )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file on the CPU. Raises :class:`DiptychError` where it is missing, broken, or of another kind."""
    refuse_pickle(path)
    if not path.is_file():
        raise DiptychError(f"weights {path}", "there is no such file", "Point at a folder that holds model.safetensors")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DiptychError(f"weights {path}", f"not readable as safetensors ({error})", "Copy or download the file again") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object out of a file. Raises :class:`DiptychError` where it is missing or not an object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DiptychError(f"file {path}", error.strerror or "not readable", "Point at a complete model folder") from error
    except ValueError as error:
        raise DiptychError(f"file {path}", f"not JSON ({error})", "Copy or download the file again") from error
    if not isinstance(value, dict):
        raise DiptychError(f"file {path}", f"holds a {type(value).__name__}, not an object", "Copy or download the file again")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """JSON with two spaces of indent and a final line break."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file of detached, contiguous copies on the CPU, readable by whoever may read its folder."""
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, path, metadata or {"format": "pt"})
    path.chmod(path.parent.stat().st_mode & 0o666)


def check_same(found: Iterable[str], wanted: Iterable[str], what: str, ours: str) -> None:
    """A :class:`DiptychError` that names both sides when two sets of keys differ."""
    extra, missing = set(found) - set(wanted), set(wanted) - set(found)
    if extra or missing:
        parts = [f"it has {some(extra)} that {ours} has not"] * bool(extra) + [f"it lacks {some(missing)} that {ours} needs"] * bool(
            missing
        )
        raise DiptychError(what, "; ".join(parts), "Use weights and config of the same model")


def distinct(model: nn.Module) -> dict[str, Tensor]:
    """The state of ``model`` with every tensor once: one that two towers share goes by its first name."""
    again = {name for name, _ in model.named_parameters(remove_duplicate=False)} - {name for name, _ in model.named_parameters()}
    return {name: value for name, value in model.state_dict().items() if name not in again}


def assign(model: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Put ``tensors`` (upcast to the parameters' type) into ``model``; keys and shapes must agree exactly, shared ones given once."""
    own = distinct(model)
    check_same(tensors, own, what, "the config's model")
    for name, value in tensors.items():
        if value.shape != own[name].shape:
            why = f"{name} has shape {tuple(value.shape)}, the config asks for {tuple(own[name].shape)}"
            raise DiptychError(what, why, "Use weights and config of the same model")
    with torch.no_grad():
        for name, value in tensors.items():
            own[name].copy_(value)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_folder(folder: Path, fill: Callable[[Path], None], owned: str) -> None:
    """Make ``folder`` in one step: filled under a temporary name, synced to disk, renamed.

    Args:
        fill: writes the files into the folder that it is given.
        owned: a file that marks an existing folder as one of this kind, which may be replaced; its other files are carried over.

    Raises:
        DiptychError: ``folder`` holds something else, or the disk refuses.
    """
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / owned).is_file())):
        raise DiptychError(f"folder {folder}", f"it holds other things than a model (no {owned})", "Choose a new or empty folder")
    fresh, old = (folder.parent / f".{folder.name}.{tag}-{os.getpid()}" for tag in ("new", "old"))
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        fill(fresh)
        if folder.is_dir():
            for other in folder.iterdir():
                if not (fresh / other.name).exists():
                    (shutil.copytree if other.is_dir() else shutil.copy2)(other, fresh / other.name)
        for path in fresh.rglob("*"):
            _sync(path)
        _sync(fresh)
        if folder.exists():
            folder.rename(old)
        try:
            fresh.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
        _sync(folder.parent)
    except OSError as error:
        raise DiptychError(f"writing {folder}", error.strerror or str(error), "Free space or choose another folder") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
