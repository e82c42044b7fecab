"""What the tests of objectives with further texts share: coloured squares in memory and a few steps of training."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from diptych.core.types import Sample
from diptych.data.sources.base import Dataset
from diptych.engine.loop import train
from diptych.engine.run import Run

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (40, 70, 220), "white": (240, 240, 240)}


class Halves(Dataset):
    """Pictures of two colours, one above the other, with the caption that says so; ``meta`` is added to every sample."""

    def __init__(self, captions: Sequence[str] = ("a {} b above a {} c",), meta: dict[str, Any] | None = None) -> None:
        super().__init__("halves", "halves in memory")
        self.rows = []
        for top, bottom in [(a, b) for a in COLOURS for b in COLOURS if a != b]:
            image = Image.new("RGB", (32, 32), COLOURS[bottom])
            image.paste(COLOURS[top], (0, 0, 32, 16))
            file = io.BytesIO()
            image.save(file, "PNG")
            texts = tuple(text.format(top, bottom) for text in captions)
            self.rows.append(Sample(f"{top}-{bottom}", file.getvalue(), texts, meta=meta or {}))
        self.rows.sort(key=lambda row: row.id)
        self.ids = [row.id for row in self.rows]

    def sample(self, index: int) -> Sample:
        return self.rows[index]

    def fingerprint(self) -> str:
        return "halves"


def log_of(folder: Path, dataset: Dataset, objective: str, *assignments: str) -> list[dict[str, Any]]:
    """The lines of the log after a short run of the tiny preset."""
    plain = {
        "init": {"preset": "tiny"},
        "data": {"batch": 12, "workers": 0},
        "objective": {"name": objective},
        "optim": {"lr": 3e-3},
        "budget": {"steps": 25},
        "save": {"every": 25, "log_every": 1},
        "precision": "off",
    }
    train(Run.from_dict(plain).with_set(*assignments), folder, dataset=dataset, progress=False)
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
