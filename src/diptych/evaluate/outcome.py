"""What a protocol is asked and what it gives: one value an example for each metric, so that intervals and paired tests can follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from diptych.evaluate.material import Table

EncodeText = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True, slots=True)
class Question:
    """All that a protocol sees: rows of the pictures, a way to get rows of words, and the set. N pictures, D embedding width.

    Args:
        image_ND: unit rows, in the table's order.
        table: the samples' words, labels, concepts and parts.
        encode_text: texts to unit rows.
        classes: class names by label, or ().
        templates: the set's prompt templates, else the model's, else the default ones.
    """

    image_ND: Tensor
    table: Table
    encode_text: EncodeText
    classes: tuple[str, ...]
    templates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """Per-example values of one metric; the number is their mean.

    Args:
        name: as records say it (``"top1"``, ``"text_to_image_r@5"``, ``"top1[food]"`` for one part of the set).
        value_N: float64, one an example: hits are 0 or 1.
        unit_N: int64; examples with equal values are resampled together. None: each on its own.
        chance: what guessing gives.
        hits: the values are hits and misses, so what a change kept of its parent's hits can be told.
    """

    name: str
    value_N: Tensor
    unit_N: Tensor | None
    chance: float
    hits: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """All metrics of one protocol on one set, and what the report's pictures are made from.

    Args:
        protocol: the protocol's id.
        metrics: the main one first.
        index_N: which of the question's samples took part (int64).
        show: tensors and names for :mod:`diptych.evaluate.details`, by name.
    """

    protocol: str
    metrics: tuple[Metric, ...]
    index_N: Tensor
    show: Mapping[str, Any] = field(default_factory=dict)
