"""PictoBench: scenes put together from the embedded drawings on purpose, each with an exact answer. Test sets are in unseen styles.

Every test set ``pictobench/NAME`` is sealed and has a companion ``pictobench/NAME-train``, made alike from the drawings that are trained
on. ``write("pictobench/NAME", FOLDER)`` writes one as webdataset tars for other tools.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.data.sets.base import EvalSet
from diptych.data.sets.pictograms import TEMPLATES

if TYPE_CHECKING:
    from diptych.core.types import Sample

VERSION = "1"
SEED = 0


@dataclass(frozen=True, slots=True)
class Part:
    """One set and its companion.

    Args:
        about: one line on what it asks.
        maker: module and function that makes the samples from a split, a size and a seed.
        size: what the maker is given for the test set and for the training set.
        tasks: the protocols it is meant for.
        metric: the main number, and what guessing gives on it.
        classes: names the class names of the maker's module, or "".
    """

    about: str
    maker: tuple[str, str]
    size: tuple[int, int]
    tasks: tuple[str, ...]
    metric: tuple[str, float]
    classes: str = ""


BINDING, PLACES, TRAPS = "bench_binding", "bench_places", "bench_traps"
PARTS = {
    "attributes": Part(
        "which of two things has which of two colours", (BINDING, "attributes"), (160, 512), ("choice",), ("accuracy", 1 / 2)
    ),
    "relations": Part(
        "which of two things is to the left, to the right, above, below, bigger, smaller",
        (BINDING, "relation_pairs"), (40, 128), ("choice",), ("accuracy", 1 / 2),
    ),
    "counting": Part(
        "how many of six things are of one kind, none to six", (BINDING, "counting"), (42, 128), ("choice",), ("accuracy", 1 / 7)
    ),
    "regions": Part(
        "which of twelve things a box shows, and where each of them is",
        (PLACES, "regions"), (30, 64), ("regions", "pointing"), ("crop_top1", 1 / 12), "CLASSES",
    ),
    "ordering": Part(
        "pictures of one thing put in order by number or by size", (PLACES, "ordering"), (24, 64), ("ordering",), ("kendall", 0.0)
    ),
    "anomaly": Part(
        "a drawing damaged in a known place against the same drawing whole",
        (PLACES, "anomalies"), (120, 120), ("anomaly",), ("image_auroc", 1 / 2),
    ),
    "background": Part(
        "one of twelve things on the ground that it goes with in training, and on the other one",
        (TRAPS, "backgrounds"), (4, 4), ("counteranimal", "perceptionclip"), ("background_drop", 0.0), "CLASSES",
    ),
    "association": Part(
        "which colour one of two coloured things has",
        (TRAPS, "associations"), (1, 2), ("concept-association-bias",), ("colour_bias", 1 / 6),
    ),
}  # fmt: skip


@functools.cache
def _samples(name: str, role: str) -> tuple[Sample, ...]:
    """The samples of a part, made once a process."""
    part = PARTS[name]
    make: Callable[[str, int, int], Sequence[Sample]] = getattr(_module(part), part.maker[1])
    split, size = ("style", part.size[0]) if role == "test" else ("train", part.size[1])
    return tuple(sorted(make(split, size, SEED), key=lambda sample: sample.id))


def _module(part: Part):
    return importlib.import_module(f"diptych.data.pictograms.{part.maker[0]}")


def _classes(name: str) -> tuple[str, ...]:
    part = PARTS[name]
    return tuple(getattr(_module(part), part.classes)) if part.classes else ()


def _set(name: str, role: str) -> EvalSet:
    part = PARTS[name]
    test = role == "test"
    return EvalSet(
        name=f"pictobench/{name}" if test else f"pictobench/{name}-train",
        version=VERSION,
        about=part.about if test else f"{part.about}; in the styles that are trained on",
        read_samples=functools.partial(_samples, name, role),
        read_classes=functools.partial(_classes, name),
        templates=TEMPLATES["en"] if part.classes else (),
        tasks=part.tasks if test else (),
        metric=part.metric[0] if test else "",
        read_chance=(lambda: part.metric[1]) if test else None,
        sealed=test,
        companions={"train": f"pictobench/{name}-train"} if test else {},
    )


SETS = tuple(_set(name, role) for name in PARTS for role in ("test", "train"))


def write(name: str, folder: str | Path) -> list[Path]:
    """Write a set (``"pictobench/attributes"``) as webdataset tars: ``KEY.png``, ``KEY.json`` and, with classes, ``KEY.cls``.

    Returns:
        The tars. ``diptych.open(folder)`` and any reader of tars reads them.

    Raises:
        UsageError: no set has this name.
    """
    from diptych.data.pictograms.bench_scenes import write as write_samples
    from diptych.data.sets.find import find

    found = find(name)
    return write_samples(Path(folder), found.samples(), found.classes)
