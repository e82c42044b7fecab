"""Rows of pictures and texts, computed once a model and data: a folder of safetensors files keyed by both fingerprints.

A file is written under a temporary name, flushed and renamed, and carries the SHA-256 of its rows, so what is read is either whole or
computed again, with a note.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from diptych.core.errors import DiptychError
from diptych.core.types import Sample
from diptych.data.sources.base import BrokenSample
from diptych.evaluate.material import hash_of

logger = logging.getLogger("diptych")
CHUNK = 1024


class Encoder(Protocol):
    """All that an evaluation sees of a model."""

    def encode_image(self, images: Any, batch_size: int = 64, progress: bool = False) -> Tensor: ...

    def encode_text(self, texts: Any, batch_size: int = 256, progress: bool = False) -> Tensor: ...

    def fingerprint(self) -> str: ...


def default_folder() -> Path:
    """``$DIPTYCH_CACHE``, else ``diptych`` in the user's cache folder."""
    if chosen := os.environ.get("DIPTYCH_CACHE"):
        return Path(chosen) / "features"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diptych" / "features"


class Features:
    """Cached rows of one model.

    Args:
        model: what encodes.
        folder: where rows are kept; None keeps nothing.
        batch_size: pictures encoded at once.
        progress: show bars.

    Attributes:
        notes: what was computed again and why, and which pictures could not be read.
    """

    def __init__(self, model: Encoder, folder: Path | None, batch_size: int = 64, progress: bool = False) -> None:
        self.model, self.folder, self.batch_size, self.progress = model, folder, batch_size, progress
        self.notes: list[str] = []
        self._key = getattr(model, "rows_fingerprint", model.fingerprint)() if folder is not None else ""

    def images(self, source: Sequence[Sample], fingerprint: str) -> Tensor:
        """Unit rows ``image_ND`` float32 of all samples; a row of NaN where the picture cannot be decoded."""
        return self._cached(f"image|{fingerprint}", len(source), lambda: self._encode_images(source))

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit rows ``text_MD`` float32."""
        return self._cached(f"text|{hash_of(texts)}", len(texts), lambda: self.model.encode_text(list(texts), progress=self.progress))

    def other(self, what: str, rows: int, compute: Callable[[], Tensor]) -> Tensor:
        """Float32 rows of this model that ``what`` names completely, computed once."""
        return self._cached(what, rows, compute)

    def _encode_images(self, source: Sequence[Sample]) -> Tensor:
        parts = []
        for start in range(0, len(source), CHUNK):
            samples = [source[i] for i in range(start, min(start + CHUNK, len(source)))]
            try:
                parts.append(self.model.encode_image(samples, batch_size=self.batch_size, progress=self.progress))
            except BrokenSample:
                parts.append(self._encode_readable(samples))
        return torch.cat(parts)

    def _encode_readable(self, samples: Sequence[Sample]) -> Tensor:
        """One by one, so that a broken picture costs only its own row."""
        rows: list[Tensor | None] = []
        for sample in samples:
            try:
                rows.append(self.model.encode_image([sample], batch_size=1))
            except BrokenSample as error:
                logger.debug("%s: %s", sample.id, error.why)  # an evaluation names them, once for all models
                rows.append(None)
        width = next((row.shape[1] for row in rows if row is not None), None)
        if width is None:
            raise DiptychError(
                "evaluation data", f"none of {len(samples)} pictures in a row can be decoded", "Look at them with `diptych inspect PATH`"
            )
        return torch.cat([torch.full((1, width), torch.nan) if row is None else row for row in rows])

    def _cached(self, what: str, rows: int, compute: Callable[[], Tensor]) -> Tensor:
        if self.folder is None:
            return compute()
        path = self.folder / f"{hash_of([self._key, what])}.safetensors"
        if path.exists():
            found = _load(path, rows)
            if isinstance(found, Tensor):
                return found
            self.notes.append(f"cached features {path.name} were damaged ({found}) and computed again")
            logger.warning(self.notes[-1])
        made = compute().float().contiguous()
        _store(made, path)
        return made


def _digest(rows_ND: Tensor) -> str:
    return sha256(rows_ND.contiguous().numpy().data).hexdigest() if rows_ND.numel() else ""


def _load(path: Path, rows: int) -> Tensor | str:
    """The memory-mapped rows, or in words what is wrong with the file."""
    try:
        with safe_open(path, framework="pt") as file:
            expected = (file.metadata() or {}).get("sha256")
            found = file.get_tensor("rows")
    except (SafetensorError, OSError) as error:
        return str(error).splitlines()[0]
    if len(found) != rows:
        return f"{len(found)} rows instead of {rows}"
    return found if _digest(found) == expected else "its checksum is off"


def _store(rows_ND: Tensor, path: Path) -> None:
    """Write under a temporary name, flush, rename."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        os.close(handle)
        try:
            save_file({"rows": rows_ND}, name, metadata={"sha256": _digest(rows_ND)})
            with open(name, "rb") as file:
                os.fsync(file.fileno())
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise DiptychError(
            f"feature cache {path.parent}", str(error), "Free some space, or set DIPTYCH_CACHE to a folder that you may write to"
        ) from error
