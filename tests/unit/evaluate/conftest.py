"""A small world with a model whose answers are known: pictures of one colour, words that name it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.core.rng import generator
from diptych.core.types import Sample
from diptych.data.decode import decode
from diptych.evaluate.material import Material, hash_of

COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "yellow": (255, 255, 0),
    "pink": (255, 0, 255),
}


def picture(rgb: tuple[int, int, int], size: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), rgb, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


class ColourModel:
    """Knows colours by their RGB; ``wrong`` renames some; counts its calls."""

    def __init__(self, wrong: dict[str, str] | None = None, templates: tuple[str, ...] = ("{}",), name: str = "colours") -> None:
        self.wrong, self.templates, self.calls = wrong or {}, templates, 0
        self.config = SimpleNamespace(name=name)

    def encode_image(self, images: Any, batch_size: int = 64, progress: bool = False) -> torch.Tensor:
        self.calls += 1
        pixels = [decode(sample.image).reshape(-1, 3).mean(0) for sample in images]
        return self._unit(torch.tensor(np.array(pixels), dtype=torch.float32))

    def encode_text(self, texts: Sequence[str], batch_size: int = 256, progress: bool = False) -> torch.Tensor:
        self.calls += 1
        names = [next(name for name in COLOURS if name in text) for text in texts]
        return self._unit(torch.tensor([COLOURS[self.wrong.get(name, name)] for name in names], dtype=torch.float32))

    def fingerprint(self) -> str:
        return hash_of(f"{a}{b}" for a, b in self.wrong.items())

    def _unit(self, rgb: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(rgb - 127.5 + torch.tensor([1.0, 2.0, 3.0]), dim=1)


@pytest.fixture
def colour_model() -> type[ColourModel]:
    return ColourModel


@pytest.fixture
def colour_set() -> Material:
    """Three shades of each colour, two captions each, in two parts."""
    names, samples = list(COLOURS), []
    draw = generator(0, "shades")
    for label, name in enumerate(names):
        for shade in range(3):
            rgb = tuple(int(v) for v in (torch.tensor(COLOURS[name]) * 0.9 + torch.randint(0, 25, (3,), generator=draw)).tolist())
            captions = (f"a {name} thing", f"something {name} {shade}")
            part = "bright" if label % 2 else "dark"
            samples.append(Sample(f"{name}-{shade}", picture(rgb), captions, label, name, {"group": part}))  # type: ignore[arg-type]
    return Material("colours", "1", samples, hash_of(s.id for s in samples), tuple(names), ("a {} thing", "{}"))
