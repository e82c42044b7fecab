"""A part of the embedded corpus on which a method is measured in minutes on one core: the trained concepts of three groups.

``study/train`` has the training styles, ``study/zero-shot`` the unseen ones, ``study/retrieval`` one twemoji drawing a concept.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

from diptych.data import pictograms
from diptych.data.sets.base import EvalSet
from diptych.data.sets.pictograms import TEMPLATES, VERSION

if TYPE_CHECKING:
    from diptych.core.types import Sample

GROUPS = ("animals-nature", "food-drink", "travel-places")
RECALL_AT = 10


@functools.cache
def _label() -> dict[str, int]:
    """Label among the study's concepts, by concept id."""
    chosen = (concept for concept in pictograms.concepts() if concept.group in GROUPS and not concept.unseen)
    return {concept.id: i for i, concept in enumerate(chosen)}


def _names() -> tuple[str, ...]:
    by_id = {concept.id: concept.name for concept in pictograms.concepts()}
    return tuple(by_id[identity] for identity in _label())


def _split(name: str) -> list[Sample]:
    label = _label()
    return [replace(sample, label=label[sample.concept]) for sample in pictograms.samples(name) if sample.concept in label]


def _retrieval() -> list[Sample]:
    return [replace(sample, label=None) for sample in _split("style") if sample.meta["style"] == "twemoji"]


SETS = (
    EvalSet(
        "study/train",
        VERSION,
        "animals, food and places in the seven trained styles: a small set to measure a method on",
        lambda: _split("train"),
        _names,
        TEMPLATES["en"],
    ),
    EvalSet(
        "study/zero-shot",
        VERSION,
        "which of the trained animals, foods and places, in styles never trained on",
        lambda: _split("style"),
        _names,
        TEMPLATES["en"],
        tasks=("zero_shot",),
        metric="top1",
        read_chance=lambda: 1 / len(_label()),
        sealed=True,
    ),
    EvalSet(
        "study/retrieval",
        VERSION,
        "pictures and captions of animals, foods and places find each other; one twemoji drawing a concept",
        _retrieval,
        tuple,
        tasks=("retrieval",),
        metric=f"text_to_image_r@{RECALL_AT}",
        read_chance=lambda: RECALL_AT / len(_retrieval()),
        sealed=True,
    ),
)
