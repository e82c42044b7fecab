"""What a report shows beside the numbers: sections that protocols make of their outcomes, and small pictures.

``details.json`` holds ``{"version", "sets": [section …]}``, one section a model, set and protocol; pictures lie beside it as
``thumbs/HASH.webp`` and are named by their hash.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image
from torch import Tensor

from diptych.core.errors import DiptychError
from diptych.data.decode import decode
from diptych.evaluate.material import Material
from diptych.evaluate.outcome import Outcome

VERSION = 1
SIDE = 112


class Thumbs:
    """Writes small pictures once each and gives their names."""

    def __init__(self, folder: Path, data: Material, index_N: Tensor) -> None:
        self.folder, self.data, self.index = folder, data, index_N.tolist()
        self.folder.mkdir(parents=True, exist_ok=True)

    def name(self, position: int) -> str:
        """The file name of the picture at ``position`` among the evaluated samples."""
        image = Image.fromarray(decode(self.data.source[self.index[position]].image, keep_alpha=True))
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=82, method=4)
        name = hashlib.sha256(buffer.getvalue()).hexdigest()[:16] + ".webp"
        if not (self.folder / name).exists():
            (self.folder / name).write_bytes(buffer.getvalue())
        return name


def add(
    folder: Path,
    data: Material,
    index_N: Tensor,
    module: ModuleType,
    outcomes: Sequence[Outcome],
    models: Sequence[str],
    speed: dict[str, Any],
    notes: Sequence[str],
) -> Path:
    """Put the section of one model, set and protocol into ``folder/details.json``, in place of an older one of the same name.

    Args:
        index_N: which of the set's samples were asked about.
        module: the protocol; its ``section(outcome, thumbs)``, where it has one, gives what the page shows besides the numbers. A section
            that cannot be made costs its pictures only, and a note says so.
        outcomes: of the model, and of the baseline where there is one; of the baseline's section only the figures are kept.
        models: their names.
        speed: what :func:`diptych.evaluate.speed.measure` found.
        notes: what the reader should know (pictures left out, features computed again).

    Raises:
        DiptychError: the folder cannot be written or holds a details.json that is not ours.
    """
    path = folder / "details.json"
    try:
        key = (models[0], data.name, outcomes[0].protocol)
        section: dict[str, Any] = {"model": key[0], "set": key[1], "version": data.version, "protocol": key[2]}
        section |= {"n": len(outcomes[0].index_N), "about": data.about, "speed": speed, "notes": list(notes)}
        thumbs = Thumbs(folder / "thumbs", data, index_N)
        made = [_shown(module, outcome, thumbs) for outcome in outcomes] if hasattr(module, "section") else []
        for place, found in enumerate(made):
            if isinstance(found, str):
                section["notes"].append(f"{module.CARD.name} on {data.name}, {models[place]}: its figures could not be made ({found})")
            else:
                section |= {"baseline_figures": found.get("figures", [])} if place else found
        if len(models) > 1:
            section["baseline"] = models[1]
        older = [s for s in read(path)["sets"] if (s["model"], s["set"], s["protocol"]) != key] if path.exists() else []
        text = json.dumps({"version": VERSION, "sets": [*older, section]}, ensure_ascii=False, indent=1)
        temporary = path.with_suffix(".part")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise DiptychError(
            f"details {path}", error.strerror or str(error), "Free some space or give a folder that you may write to"
        ) from error
    return path


def _shown(module: ModuleType, outcome: Outcome, thumbs: Thumbs) -> dict[str, Any] | str:
    """The protocol's section as plain JSON values, null for what is not finite; or why there is none.

    Whatever it did not foresee costs its pictures only.
    """
    try:
        return json.loads(json.dumps(module.section(outcome, thumbs)), parse_constant=lambda _: None)
    except OSError:
        raise
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def read(path: Path) -> dict[str, Any]:
    """The content of a details.json. Raises :class:`DiptychError` when it is not one of ours."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DiptychError(f"details {path}", f"not valid JSON ({error})", "Remove it and evaluate again") from error
    if not isinstance(found, dict) or found.get("version") != VERSION or not isinstance(found.get("sets"), list):
        raise DiptychError(f"details {path}", f"not a version {VERSION} file", "Remove it and evaluate again")
    return found
