"""Pooled rows of frozen towers, each picture and text once, cached on disk.

A cache file is named by a digest of all that decides its content (the tower's config and weights, preprocessing or tokenizer, the data)
and written whole or not at all, so a stale or half-written one cannot be read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from diptych.core.errors import DiptychError, UsageError
from diptych.data.images import image_batches
from diptych.data.sources.base import Dataset
from diptych.towers.dual import DualEncoder
from diptych.towers.encode import evaluating

IMAGES, TEXTS = 64, 256  # rows at a time


def cache_folder() -> Path:
    """``$DIPTYCH_CACHE``, else ``$XDG_CACHE_HOME/diptych``, else ``~/.cache/diptych``."""
    if "DIPTYCH_CACHE" in os.environ:
        return Path(os.environ["DIPTYCH_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diptych"


@torch.no_grad()
def digest(module: nn.Module, *parts: object) -> str:
    """32 hexadecimal digits of the SHA-256 of the module's weights and of ``parts``."""
    hasher = hashlib.sha256(repr(parts).encode())
    for name, value in sorted(module.state_dict().items()):
        hasher.update(f"{name}{tuple(value.shape)}".encode())
        hasher.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return hasher.hexdigest()[:32]


def image_rows(model: DualEncoder, dataset: Dataset, cache: Path | None = None) -> tuple[list[int], Tensor, list[tuple[str, str]]]:
    """Indices of the readable pictures, their pooled rows N, W (float32, CPU), and ``(id, why)`` of the unreadable.

    Args:
        cache: folder; None is :func:`cache_folder`.
    """
    key = digest(model.image, model.config.image, model.config.preprocess, dataset.fingerprint())
    file = (cache or cache_folder()) / f"image-{key}.safetensors"
    if file.exists():
        rows, meta = _read(file)
        return json.loads(meta["kept"]), rows, [(name, why) for name, why in json.loads(meta["broken"])]
    kept: list[int] = []
    broken: list[tuple[str, str]] = []
    parts = []
    with evaluating(model.image):
        for indices, pixels_BCHW in image_batches(dataset, model.config.preprocess, IMAGES, broken=broken):
            kept += indices
            parts.append(model.image(model.normalise(pixels_BCHW.to(model.device)))[0].float().cpu())
    rows = torch.cat(parts) if parts else torch.empty(0, model.image.width)
    _write(file, rows, {"kept": json.dumps(kept), "broken": json.dumps(broken)})
    return kept, rows, broken


def text_rows(model: DualEncoder, texts: Sequence[str], cache: Path | None = None) -> Tensor:
    """Pooled rows M, W (float32, CPU) of ``texts``, in order.

    Raises:
        UsageError: the model has no tokenizer.
    """
    if model.tokenizer is None:
        raise UsageError(f"model {model.config.name!r}", "it has no tokenizer", "Load it from a folder with tokenizer.json")
    probe = model.tokenizer(["A probe of the tokenizer, 12 words…"]).tolist()
    key = digest(model.text, model.config.text, model.tokenizer.config, probe, tuple(texts))
    file = (cache or cache_folder()) / f"text-{key}.safetensors"
    if file.exists():
        return _read(file)[0]
    ids_ML = model.tokenizer(list(texts))
    length_M = (ids_ML != model.tokenizer.pad_id).sum(1)
    rows = torch.empty(len(texts), model.text.width)
    with evaluating(model.text):
        for part in length_M.argsort(stable=True).split(TEXTS):
            longest = int(length_M[part].max()) if model.text.crops else ids_ML.shape[1]
            rows[part] = model.text(ids_ML[part, :longest].to(model.device))[0].float().cpu()
    _write(file, rows, {})
    return rows


def _read(file: Path) -> tuple[Tensor, dict[str, str]]:
    with safe_open(str(file), framework="pt") as handle:
        return handle.get_tensor("rows"), handle.metadata() or {}


def _write(file: Path, rows: Tensor, meta: dict[str, str]) -> None:
    """Under a temporary name first, then renamed. Raises :class:`DiptychError` where the folder cannot be written."""
    whole = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({"rows": rows.contiguous()}, str(whole), metadata=meta)
        os.replace(whole, file)
    except OSError as error:
        whole.unlink(missing_ok=True)
        raise DiptychError(f"cache {file.parent}", error.strerror or str(error), "Free some space or set DIPTYCH_CACHE") from error
