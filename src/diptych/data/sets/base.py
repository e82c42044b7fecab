"""What an evaluation set declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diptych.core.types import Sample


@dataclass(frozen=True, slots=True)
class EvalSet:
    """One benchmark: what is classified or retrieved, with which words, and what guessing gives. Nothing is read before it is asked for.

    Args:
        name: what ``diptych evaluate MODEL NAME`` finds it by.
        version: changes whenever a number on it could.
        about: one line on what it measures.
        read_samples: reads the samples; ``label`` indexes ``classes``, ``meta["group"]`` names the part a sample is reported under.
        read_classes: reads the class names; gives ``()`` where the set has none.
        templates: prompt templates with ``{}`` for the class name, in the set's language.
        language: of its classes, templates and captions.
        tasks: protocols it is meant for: ``"zero_shot"``, ``"retrieval"``; empty for a training split.
        metric: the main number.
        chance: what guessing gives on ``metric``, worked out from the set.
        sealed: a test set; never train on it or choose by it.
        companions: names of sets by role: ``"train"`` and ``"validation"``, which a protocol may fit on, ``"unknown"``, whose pictures
            show none of the classes.
    """

    name: str
    version: str
    about: str
    read_samples: Callable[[], Sequence[Sample]]
    read_classes: Callable[[], tuple[str, ...]]
    templates: tuple[str, ...] = ()
    language: str = "en"
    tasks: tuple[str, ...] = ()
    metric: str = ""
    read_chance: Callable[[], float] | None = None
    sealed: bool = False
    companions: Mapping[str, str] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by label."""
        return self.read_classes()

    @property
    def chance(self) -> float | None:
        """What guessing gives on ``metric``; None where the set has no main number."""
        return None if self.read_chance is None else self.read_chance()

    @property
    def protocols(self) -> tuple[str, ...]:
        """The tasks under the name that evaluation knows them by."""
        return self.tasks

    def samples(self) -> Sequence[Sample]:
        """The samples, sorted by id."""
        return self.read_samples()

    def groups(self) -> tuple[str, ...]:
        """The parts its samples are reported under, sorted."""
        return tuple(sorted({str(sample.meta["group"]) for sample in self.samples() if sample.meta.get("group")}))
