"""A data set of coloured shapes in memory, and runs small enough for tests."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

from diptych.core.types import Sample
from diptych.data.sources.base import Dataset
from diptych.engine.run import Run

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (40, 70, 220), "yellow": (230, 210, 50)}
SHAPES = ("square", "disc", "bar", "cross")


def picture(colour: str, shape: str, shift: int) -> bytes:
    """A 32 px PNG."""
    image = Image.new("RGB", (32, 32), (245, 245, 245))
    draw, at, fill = ImageDraw.Draw(image), 6 + shift, COLOURS[colour]
    if shape == "square":
        draw.rectangle((at, at, at + 14, at + 14), fill=fill)
    elif shape == "disc":
        draw.ellipse((at, at, at + 16, at + 16), fill=fill)
    elif shape == "bar":
        draw.rectangle((2, at + 4, 29, at + 9), fill=fill)
    else:
        draw.rectangle((at + 5, at, at + 9, at + 15), fill=fill)
        draw.rectangle((at, at + 5, at + 15, at + 9), fill=fill)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


class Toys(Dataset):
    """Four colours × four shapes × ``copies`` places; equal captions are positives of one another."""

    def __init__(self, copies: int = 4) -> None:
        super().__init__("toys", "toys in memory")
        kinds = [(colour, shape, i) for colour in COLOURS for shape in SHAPES for i in range(copies)]
        self.rows = [Sample(f"{c}-{s}-{i}", picture(c, s, i), (f"a {c} {s}",), concept=f"{c} {s}") for c, s, i in kinds]
        self.rows.sort(key=lambda row: row.id)
        self.ids = [row.id for row in self.rows]

    def sample(self, index: int) -> Sample:
        return self.rows[index]

    def fingerprint(self) -> str:
        return "toys"


def run(*assignments: str) -> Run:
    """A run of the tiny preset, with settings changed."""
    plain = {
        "name": "toys",
        "init": {"preset": "tiny"},
        "data": {"batch": 16, "workers": 0},
        "budget": {"steps": 12},
        "save": {"every": 4, "log_every": 1},
        "precision": "off",
    }
    return Run.from_dict(plain).with_set(*assignments)
