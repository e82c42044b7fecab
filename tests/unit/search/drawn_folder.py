"""Drawings as files: what the tests of the index share."""

from __future__ import annotations

from pathlib import Path

from diptych.data import pictograms


def draw(folder: Path, count: int, start: int = 0) -> list[Path]:
    """``count`` drawings as files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for sample in pictograms.samples("validation")[start : start + count]:
        paths.append(folder / f"{sample.id}.webp")
        paths[-1].write_bytes(sample.image)  # type: ignore[arg-type]
    return paths
