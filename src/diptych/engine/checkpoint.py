"""Checkpoints that survive a crash, a kill and a full disk.

A checkpoint is a folder ``step-00000500`` of safetensors (weights that are trained, buffers, optimiser moments, moving
average) and one JSON file with the rest. It is written under another name, forced to disk and then renamed, so that a
folder of that name is always whole; older ones are removed only after that. Frozen weights are not written again: their
hash is, and a resume that finds other ones stops.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diptych.core.errors import DiptychError

PREFIX = "step-"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a checkpoint holds: named groups of CPU tensors, and plain JSON values."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


def frozen_hash(model: nn.Module) -> str:
    """sha256 of all parameters that are not trained."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if not parameter.requires_grad:
            digest.update(f"{name}{tuple(parameter.shape)}".encode())
            digest.update(whole(parameter).contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(folder: Path, snapshot: Snapshot) -> None:
    folder.mkdir(parents=True)
    for name, tensors in snapshot.tensors.items():
        save_file({key: value.contiguous() for key, value in tensors.items()}, folder / f"{name}.safetensors")
    (folder / "state.json").write_text(json.dumps(snapshot.state, indent=1), encoding="utf-8")
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)


def write_folder(target: Path, snapshot: Snapshot) -> None:
    """Write ``target`` whole or not at all; a folder of that name is replaced.

    Raises:
        DiptychError: the disk is full or refuses; what was there before is untouched.
    """
    temporary, old = target.with_name(f".writing-{target.name}"), target.with_name(f".old-{target.name}")
    try:
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)
        _write(temporary, snapshot)
        if target.exists():
            target.rename(old)
        temporary.rename(target)
        sync_folder(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not target.exists():
            old.rename(target)
        free = shutil.disk_usage(target.parent if target.parent.exists() else Path.cwd()).free >> 20
        raise DiptychError(
            f"writing checkpoint {target}",
            f"{error} ({free:,} MiB are free)",
            "Make room and start the same command again: it goes on from the last whole checkpoint",
        ) from error


class Checkpoints:
    """The checkpoints of one run folder: the newest ``keep`` and the best.

    Args:
        folder: ``RUN/checkpoints``.
        keep: how many of the newest are kept.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def steps(self) -> list[int]:
        """Steps of the whole checkpoints, ascending."""
        return sorted(int(path.name.removeprefix(PREFIX)) for path in self.folder.glob(f"{PREFIX}*") if (path / "state.json").exists())

    def save(self, step: int, snapshot: Snapshot) -> Path:
        """Write one and then remove the ones that are too old."""
        target = self.folder / f"{PREFIX}{step:08d}"
        write_folder(target, snapshot)
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.folder / f"{PREFIX}{old:08d}", ignore_errors=True)
        return target

    def save_best(self, snapshot: Snapshot) -> None:
        """Write the best weights so far to ``best``."""
        write_folder(self.folder / "best", snapshot)

    def load(self, name: str | None = None) -> Snapshot | None:
        """The newest checkpoint (or the one called ``name``), or None where there is none.

        Raises:
            DiptychError: it cannot be read.
        """
        if name is None:
            steps = self.steps()
            if not steps:
                return None
            name = f"{PREFIX}{steps[-1]:08d}"
        folder = self.folder / name
        if not folder.exists():
            return None
        try:
            tensors = {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
            return Snapshot(tensors, json.loads((folder / "state.json").read_text(encoding="utf-8")))
        except (OSError, SafetensorError, ValueError) as error:
            raise DiptychError(
                f"checkpoint {folder}", f"it cannot be read ({error})", f"Remove {folder} to go on from the one before"
            ) from error


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Trained parameters and all persistent buffers, on the CPU; whole ones, also of a sharded model (every rank must ask)."""
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}  # a shared one is written by its first name alone
    kept = {name: value for name, value in model.state_dict().items() if name in trained or name not in parameters}
    return {name: whole(value) for name, value in kept.items()}


def whole(value: Tensor) -> Tensor:
    """A detached copy on the CPU, gathered where it is sharded."""
    value = value.detach()
    return (value.full_tensor() if hasattr(value, "full_tensor") else value).to("cpu", copy=True)  # type: ignore[operator]


@torch.no_grad()
def put(target: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into ``target``, which may be a shard."""
    if hasattr(target, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(value.to(target.device), target.device_mesh, target.placements)  # type: ignore[attr-defined]
    target.copy_(value)


def put_all(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy named tensors into a model.

    Raises:
        DiptychError: names or shapes differ.
    """
    state = model.state_dict()
    for name, value in tensors.items():
        if name not in state or state[name].shape != value.shape:
            have = tuple(state[name].shape) if name in state else "no such tensor"
            raise DiptychError(
                f"{source}, {name}", f"the checkpoint has {tuple(value.shape)}, the model {have}", "Train into another folder"
            )
        put(state[name], value)


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> dict[str, Tensor]:
    """Moments and step counts by parameter name; ``names`` maps ``id(parameter)`` to it."""
    return {
        f"{names[id(parameter)]}/{key}": whole(value)
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


@torch.no_grad()
def put_optimizer(optimizer: torch.optim.Optimizer, names: Mapping[int, str], tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser that has not stepped yet the moments of a checkpoint."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            prefix = f"{names[id(parameter)]}/"
            state = optimizer.state[parameter]
            for name in (name for name in tensors if name.startswith(prefix)):
                value = tensors[name]
                if value.ndim == 0:
                    state[name.removeprefix(prefix)] = value.clone().to(parameter.device)
                else:
                    state[name.removeprefix(prefix)] = torch.zeros_like(parameter)
                    put(state[name.removeprefix(prefix)], value)
