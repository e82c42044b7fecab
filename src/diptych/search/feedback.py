"""What people said was right or wrong, kept with the index: one JSON line a click, flushed before the call returns.

Shapes: P parts of the query, F = 3 features.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diptych.core.errors import DiptychError
from diptych.search.score import Calibration

KINDS = ("words", "pictures")


@dataclass(frozen=True, slots=True)
class Mark:
    """One part of a query and one picture that was called right or wrong.

    Args:
        kind: ``"words"`` or ``"pictures"``.
        features_F: (1, z, margin) of the part and the picture.
        shift: the formula's term in ``n`` at that time.
        right: whether the picture shows the part.
    """

    kind: str
    features_F: tuple[float, ...]
    shift: float
    right: bool


def marks(
    kinds: list[str], features_PF: np.ndarray, score_P: np.ndarray, weight_P: np.ndarray, shift_P: list[float], right: bool
) -> list[Mark]:
    """What one click says of the parts of a query.

    Right: the picture shows every part that was asked for and none that was asked away. Wrong: one part is to blame, and that is taken to
    be the one that the scores trust least (lowest of what was asked for, highest of what was asked away).
    """
    if right:
        return [
            Mark(kind, tuple(map(float, row)), shift, bool(weight > 0))
            for kind, row, weight, shift in zip(kinds, features_PF, weight_P, shift_P, strict=True)
        ]
    at = int(np.where(weight_P > 0, score_P, 1.0 - score_P).argmin())
    return [Mark(kinds[at], tuple(map(float, features_PF[at])), shift_P[at], bool(weight_P[at] < 0))]


def add(path: Path, given: list[Mark], id: str) -> None:
    """Append the marks of one click."""
    lines = [{"id": id, "kind": m.kind, "features": list(m.features_F), "shift": m.shift, "right": m.right} for m in given]
    try:
        with path.open("ab") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DiptychError(f"feedback {path}", error.strerror or "cannot be written", "Make the index's folder writable") from error


def read(path: Path) -> list[Mark]:
    """All marks of a file; a last line that was cut off by a kill is left out."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        mark = parsed(line)
        if mark is not None:
            found.append(mark)
    return found


def parsed(line: str) -> Mark | None:
    """One line as a mark; None where it is none."""
    try:
        row: Any = json.loads(line)
        features = tuple(float(value) for value in row["features"])
        mark = Mark(row["kind"], features, float(row["shift"]), bool(row["right"]))
    except (ValueError, KeyError, TypeError):
        return None
    return mark if mark.kind in KINDS and len(features) == 3 and np.isfinite([*features, mark.shift]).all() else None


def calibrated(rehearsed: Calibration, kind: str, given: list[Mark]) -> Calibration:
    """The rehearsed calibration, continued with the marks of one kind of query."""
    mine = [mark for mark in given if mark.kind == kind]
    if not mine:
        return rehearsed
    features_NF, right_N = np.array([mark.features_F for mark in mine]), np.array([mark.right for mark in mine], dtype=np.float64)
    return rehearsed.with_feedback(features_NF, right_N, np.array([mark.shift for mark in mine]))
