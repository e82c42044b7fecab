"""A question about samples that say what their rows are: models with known answers, without a tower."""

from __future__ import annotations

import io
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diptych.core.types import Sample
from diptych.evaluate.material import table
from diptych.evaluate.outcome import Question


def white(size: int = 8) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), 255, np.uint8)).save(file, "PNG")
    return file.getvalue()


class Words:
    """Texts to rows: those that are given, in order, as unit vectors; any other text is an error."""

    def __init__(self, rows: dict[str, Tensor]) -> None:
        self.rows = rows

    def __call__(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([self.rows[text] for text in texts]).float()


class World:
    """What a protocol sees of a view.

    Args:
        samples: in the question's order.
        token_NPE: their patch tokens, or None for a model that gives none.
        train: what the train companion gives.
    """

    def __init__(self, samples: Sequence[Sample], token_NPE: Tensor | None = None, train: Any = None, crops: Tensor | None = None) -> None:
        self._samples, self._token, self._train, self._crops = list(samples), token_NPE, train, crops
        self.cut: list[Sample] = []
        self.model = SimpleNamespace(
            config=SimpleNamespace(name="world", preprocess=SimpleNamespace(fill=(255, 255, 255))),
            image_projection=torch.nn.Identity(),
            scale=torch.tensor(7.0),
            encode_image=self._encode,
        )
        self.features = SimpleNamespace(other=lambda what, rows, compute: compute())
        self.data = SimpleNamespace(name="world", fingerprint="world")
        self.has_tokens = token_NPE is not None

    def _encode(self, samples: list[Sample]) -> Tensor | None:
        self.cut = samples
        return self._crops

    def samples(self, index: Tensor | None = None) -> list[Sample]:
        return self._samples if index is None else [self._samples[i] for i in index.tolist()]

    def tokens(self, samples: list[Sample] | None = None, batch: int = 3) -> Any:
        assert self._token is not None
        at = {sample.id: i for i, sample in enumerate(self._samples)}
        rows = self._token if samples is None or samples == self._samples else None
        if rows is None:
            known = dict(zip((s.id for s in self._train.material.source), self._train.tokens, strict=True))
            rows = torch.stack([self._token[at[s.id]] if s.id in at else known[s.id] for s in samples or ()])
        return rows.split(batch)

    def has(self, role: str) -> bool:
        return role == "train" and self._train is not None

    def companion(self, role: str, limit: int | None = None) -> Any:
        return self._train


def question(
    samples: Sequence[Sample], image_ND: Tensor, rows: dict[str, Tensor], classes: tuple[str, ...] = (), **more: Any
) -> tuple[Question, World]:
    """A question with its world; templates are ``("{}",)``."""
    world = World(samples, **more)
    return Question(image_ND.float(), table(samples), Words(rows), classes, ("{}",), world), world  # type: ignore[arg-type]
