"""What is known of a public benchmark without its pictures."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

VERSION = "1"


@dataclass(frozen=True, slots=True)
class PublicCard:
    """One public benchmark in CLIP_benchmark's webdataset layout.

    Args:
        name: what records call it.
        key: its name in CLIP_benchmark and DataComp, from which its folder is named (``"vtab/pets"``: ``wds_vtab-pets``).
        title: its name as people write it.
        asks: what a picture is asked, in a few words.
        task: ``"zero_shot"`` or ``"retrieval"``, the protocol it is meant for; ``""`` where none here can ask it.
        metric: the main number, as a metric of that protocol.
        classes: how many there are; 0 for retrieval.
        size: how many test pictures the whole set has; 0 where that is not known here.
        home: its homepage or paper.
        licence: as its makers state it; ``""`` where that is not known here.
        group: position in ``KEY.npy`` of the group that a picture is reported under; None where it has none.
        groups: names of the groups by their number; ``""`` leaves a group out of the parts and of the worst one.
        datacomp: one of the 38 sets of DataComp (Gadre et al., arXiv:2304.14108).
    """

    name: str
    key: str
    title: str
    asks: str
    task: str
    metric: str
    classes: int
    size: int
    home: str
    licence: str = ""
    group: int | None = None
    groups: tuple[str, ...] = ()
    datacomp: bool = True

    @property
    def version(self) -> str:
        """Of class names, templates and metric."""
        return VERSION

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names by label, for a folder without ``classnames.txt``; () where they are too many to ship."""
        return tuple(_words()["classes"].get(self.name, ()))

    @property
    def templates(self) -> tuple[str, ...]:
        """Prompt templates with ``{}``, for a folder without its own; those of ImageNet for its relatives."""
        found = _words()["templates"]
        return tuple(found.get(self.name) or found["imagenet1k"]) if self.task == "zero_shot" else ()

    @property
    def chance(self) -> float | None:
        """What guessing classes evenly gives on the main metric; None for retrieval and F1, where it depends on the samples."""
        if self.task != "zero_shot" or self.metric == "f1_macro":
            return None
        return (5 if self.metric.endswith("top5") else 1) / self.classes


@functools.cache
def _words() -> Mapping[str, Mapping[str, list[str]]]:
    return json.loads((files("diptych.data.sets.public") / "words.json").read_text(encoding="utf-8"))
