"""A part of the embedded corpus on which a method is measured in minutes on one core: the trained concepts of three groups.

``study/train`` has the training styles, ``study/zero-shot`` the unseen ones, ``study/retrieval`` one twemoji drawing a concept, and
``study/validation`` the cells of family and concept kept from training. ``study/kinds`` asks which of 26 kinds a drawing shows (the Unicode
project's subgroups); with about a hundred training drawings a kind it is a set to fit probes on.
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
KINDS = {
    "animal-mammal": "a mammal",
    "animal-bird": "a bird",
    "animal-amphibian": "an amphibian",
    "animal-reptile": "a reptile",
    "animal-marine": "a sea animal",
    "animal-bug": "an insect",
    "plant-flower": "a flower",
    "plant-other": "a plant",
    "food-fruit": "a fruit",
    "food-vegetable": "a vegetable",
    "food-prepared": "a cooked meal",
    "food-asian": "Asian food",
    "food-sweet": "something sweet",
    "drink": "a drink",
    "dishware": "tableware",
    "place-map": "a map",
    "place-geographic": "a landscape",
    "place-building": "a building",
    "place-religious": "a place of worship",
    "place-other": "a place in a city",
    "transport-ground": "a car, a train or a bus",
    "transport-water": "a ship",
    "transport-air": "an aircraft",
    "hotel": "a hotel's service",
    "time": "a clock",
    "sky-weather": "the sky or the weather",
}


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


def _kinds(name: str) -> list[Sample]:
    order = {kind: i for i, kind in enumerate(KINDS)}
    return [replace(sample, label=order[sample.meta["subgroup"]]) for sample in _split(name)]


def _kind_set(suffix: str, split: str, about: str) -> EvalSet:
    measured = split == "style"
    return EvalSet(
        f"study/kinds{suffix}",
        VERSION,
        about,
        functools.partial(_kinds, split),
        lambda: tuple(KINDS.values()),
        ("{}", "a drawing of {}"),
        tasks=("zero_shot", "linear_probe", "knn", "few_shot") if measured else (),
        metric="top1" if measured else "",
        read_chance=(lambda: 1 / len(KINDS)) if measured else None,
        sealed=measured,
        companions={"train": "study/kinds/train", "validation": "study/kinds/validation"} if measured else {},
    )


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
        companions={"train": "study/train", "validation": "study/validation", "unknown": "pictograms/unseen"},
    ),
    EvalSet(
        "study/validation",
        VERSION,
        "animals, food and places in cells of family and concept kept from training, to choose by",
        lambda: _split("validation"),
        _names,
        TEMPLATES["en"],
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
    _kind_set("", "style", "which of 26 kinds of animals, foods and places, in styles never trained on"),
    _kind_set("/train", "train", "26 kinds of animals, foods and places in the trained styles"),
    _kind_set("/validation", "validation", "26 kinds of animals, foods and places in cells kept from training, to choose by"),
)
