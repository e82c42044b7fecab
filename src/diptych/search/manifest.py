"""``index.json`` and ``golden.safetensors``: which model an index belongs to, which data it was made from; and the lock of who writes."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.core.errors import DiptychError
from diptych.towers.dual import DualEncoder
from diptych.towers.formats.native import golden
from diptych.towers.formats.weights import read_json, read_tensors, write_tensors

FORMAT, VERSION = "diptych-index", 1
TOLERANCE = 1e-3  # of a golden row's values: float32 on any device stays far below, another model far above


@dataclass(frozen=True, slots=True)
class Manifest:
    """What ``index.json`` holds.

    Args:
        model: as it was named (``"mini"``, a folder …).
        fingerprint: SHA-256 of its config and weights.
        dim: width of the vectors.
        sources: source → ``{"fingerprint", "broken"}``: of its data when it was last indexed to the end ("" before that), and what could
            not be read then.
        approximate: what was measured of the approximate index; None where search is exact.
    """

    model: str
    fingerprint: str
    dim: int
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    approximate: dict[str, Any] | None = None

    @property
    def table(self) -> str:
        """Name of the table that holds this model's vectors."""
        return f"pictures-{self.fingerprint[:12]}"

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """The manifest of a folder; None where there is none. Raises :class:`DiptychError` where it is damaged or of another format."""
        path = folder / "index.json"
        if not path.is_file():
            return None
        raw = read_json(path)
        known: dict[str, Any] = {name: raw.get(name) for name in cls.__dataclass_fields__}
        whole = all(isinstance(known[name], str) for name in ("model", "fingerprint")) and isinstance(known["dim"], int)
        if raw.get("format") != FORMAT or raw.get("version") != VERSION or not whole or not isinstance(known["sources"], dict):
            raise DiptychError(
                f"index {folder}", "its index.json is not one that this version writes", "Build it again into another folder"
            )
        return cls(**known)

    def write(self, folder: Path) -> Manifest:
        """Replace ``index.json`` in one step."""
        save(folder / "index.json", json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}, indent=2, ensure_ascii=False) + "\n")
        return self

    def source(self, name: str, fingerprint: str, broken: list[tuple[str, str]]) -> Manifest:
        """The same with one source as it was found now."""
        return replace(self, sources={**self.sources, name: {"fingerprint": fingerprint, "broken": broken}})


def save(path: Path, text: str) -> None:
    """A file that is there whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def rows_of(model: DualEncoder) -> dict[str, Tensor]:
    """The golden rows by which a model is known again."""
    return {name: value for name, value in golden(model).items() if name in ("image", "text")}


def keep_golden(folder: Path, table: str, model: DualEncoder) -> None:
    """Write the golden rows of the model whose vectors a table holds."""
    part = folder / f"golden-{table}.part.safetensors"
    write_tensors(part, rows_of(model))
    os.replace(part, folder / f"golden-{table}.safetensors")


def check_model(folder: Path, manifest: Manifest, model: DualEncoder) -> None:
    """Whether ``model`` is the one whose vectors the index holds: its fingerprint, and what it computes here and now.

    Raises:
        DiptychError: it is another one, or gives other vectors than when the index was built.
    """
    mend = f"Use the model {manifest.model!r}, or embed all pictures again with: diptych index PATH --model NAME --out {folder} --re-embed"
    if model.fingerprint() != manifest.fingerprint:
        why = f"it was built with another model ({manifest.model!r}, fingerprint {manifest.fingerprint[:12]})"
        raise DiptychError(f"index {folder}", why, mend)
    stored, now = read_tensors(folder / f"golden-{manifest.table}.safetensors"), rows_of(model)
    for name, row in now.items():
        same = name in stored and stored[name].shape == row.shape
        off = float((stored[name] - row).abs().max()) if same else float("inf")
        if not off <= TOLERANCE:
            why = f"its model now gives other {name} vectors (golden rows differ by {off:.2g}, allowed {TOLERANCE:g})"
            raise DiptychError(f"index {folder}", why, mend)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock while writing; the system lets go of it when the process ends, however it ends.

    Raises:
        DiptychError: another process is writing.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows, where two writers are kept apart by LanceDB's commits alone
        yield
        return
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DiptychError(f"index {folder}", "another process is writing it", "Wait until that one is done") from error
        yield


def device() -> torch.device:
    """Where pictures are embedded: a GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
