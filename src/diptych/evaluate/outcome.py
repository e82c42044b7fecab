"""What a protocol is asked and what it gives: one value an example for each metric, so that intervals and paired tests can follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from diptych.core.errors import UsageError
from diptych.evaluate.material import Table

if TYPE_CHECKING:
    from diptych.evaluate.metrics.bootstrap import Estimate
    from diptych.evaluate.view import View
    from diptych.towers.head import Head
    from diptych.towers.rule import Rule

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
        more: changed pictures, patch tokens and the set's other splits, for protocols that need more than rows; see :meth:`view`.
    """

    image_ND: Tensor
    table: Table
    encode_text: EncodeText
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    more: View | None = None

    @property
    def head(self) -> Head | None:
        """The head that the model carries for exactly these classes, in this order; None where it has none."""
        found = None if self.more is None else getattr(self.more.model, "head", None)
        return found if found is not None and found.classes == tuple(self.classes) else None

    @property
    def rule(self) -> Rule | None:
        """The rule by which the model answers for these classes; None where it has none."""
        found = None if self.more is None else getattr(self.more.model, "rule", None)
        return found if found is not None and self.classes and found.knows(self.classes) else None

    @property
    def view(self) -> View:
        """What there is beside the rows. Raises :class:`UsageError` where only rows were given."""
        if self.more is None:
            raise UsageError("protocol", "it needs the model and the pictures, and only rows were given", "Run it through diptych.evaluate")
        return self.more

    @property
    def metric(self) -> str:
        """The set's own main metric, ``""`` where it has none."""
        return "" if self.more is None else self.more.data.metric


@dataclass(frozen=True, slots=True)
class About:
    """How a metric is read by people; a protocol's ``ABOUT`` has one for each of its metrics.

    Args:
        title: its name as people write it.
        meaning: what one unit of it is, in a few words.
        better: ``"higher"``, ``"lower"``, or ``"neither"`` where it only describes.
        share: a number between 0 and 1 that is shown in per cent.
    """

    title: str
    meaning: str = ""
    better: str = "higher"
    share: bool = True


@dataclass(frozen=True, slots=True)
class Metric:
    """Per-example values of one metric; the number is their mean, or what ``of`` makes of them.

    Args:
        name: as records say it (``"top1"``, ``"text_to_image_r@5"``, ``"top1[food]"`` for one part of the set).
        value_N: float64, one an example: hits are 0 or 1. With ``of`` there may be further dimensions: all that ``of`` needs to know of
            each example.
        unit_N: int64; examples with equal values are resampled together. None: each on its own.
        chance: what guessing gives; None where guessing has no meaning.
        hits: the values are hits and misses, so what a change kept of its parent's hits can be told.
        of: from the values of (resampled) examples to the number, for metrics that are no means: an area, a calibration error, an mIoU.
            NaN says that a resample has no value.
        given: the number with its interval, where the protocol resamples by itself (``value_N`` is then not looked at). Its draws are to
            be the same for every model on the same examples, so that two models can be compared by them.
    """

    name: str
    value_N: Tensor
    unit_N: Tensor | None
    chance: float | None
    hits: bool = True
    of: Callable[[Tensor], float] | None = None
    given: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """All metrics of one protocol on one set, and what the report's pictures are made from.

    Args:
        protocol: the protocol's id.
        metrics: the main one first.
        index_N: which of the question's samples took part (int64).
        show: tensors and names for the protocol's ``section``, by name.
    """

    protocol: str
    metrics: tuple[Metric, ...]
    index_N: Tensor
    show: Mapping[str, Any] = field(default_factory=dict)
