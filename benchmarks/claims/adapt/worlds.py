"""What adaptation is measured on: labelled pictures, test pictures, and the draws of shots. Shapes: N pictures, K classes, D joint width.

- ``kinds``: drawings of the styles that ``mini`` never saw. A class is a Unicode subgroup ("animal mammal"); its concepts are halved, shots
  come from one half and the test from the other, so nothing is recognised by having been seen.
- ``photos``: class folders or tars of photographs with a training and a test split, at ``$DIPTYCH_PHOTOS`` (CIFAR-10 in the figures here).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diptych.adapt.parts.work import Work
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.core.types import Sample
from diptych.data import pictograms
from diptych.evaluate.features import Features, default_folder
from diptych.evaluate.material import Material, hash_of, table
from diptych.recipes.given import splits, work_of
from diptych.towers.formats.load import load

LEAST = 6  # concepts of a kind in each half
TEMPLATES = ("{}", "a drawing of {}", "an emoji: {}")


@dataclass(frozen=True, slots=True)
class World:
    """A model and data.

    Args:
        name: for records.
        features: the model with its cached rows.
        labelled, tested: of the same classes.
        about: what it is, in words.
    """

    name: str
    features: Features
    labelled: Material
    tested: Material
    about: str

    def only(self, classes: Sequence[int]) -> World:
        """The same with some of the classes, numbered anew."""
        new = {old: i for i, old in enumerate(classes)}
        names = tuple(self.labelled.classes[old] for old in classes)

        def part(data: Material) -> Material:
            source = [replace(sample, label=new[sample.label]) for sample in data.source if sample.label in new]
            return replace(data, source=source, classes=names, fingerprint=hash_of([data.fingerprint, *names]))

        return replace(self, labelled=part(self.labelled), tested=part(self.tested))

    def halves(self) -> tuple[World, World]:
        """Base and new classes: every second one."""
        count = len(self.labelled.classes)
        return self.only(range(0, count, 2)), self.only(range(1, count, 2))

    def case(self, shots: int | None, seed: int, free: Material | None = None) -> Case:
        """One draw of the shots (none at 0), with the test rows."""
        labelled = self.labelled.take(torch.zeros(0, dtype=torch.int64)) if shots == 0 else self.labelled
        work = work_of(self.features, labelled, self.tested, shots or None, seed, free)
        known = table(self.tested.source)
        return Case(self, work, self.features.images(self.tested.source, self.tested.fingerprint), known.label_N, known.group_N, seed)


@dataclass(frozen=True, slots=True)
class Case:
    """One draw.

    Args:
        work: what a method is given.
        image_ND, label_N, unit_N: rows, labels and resampling units of the test pictures.
    """

    world: World
    work: Work
    image_ND: Tensor
    label_N: Tensor
    unit_N: Tensor
    seed: int

    def pixels(self, index: Tensor) -> Tensor:
        """uint8 test pictures at the model's size."""
        from diptych.towers.encode import pixels

        preprocess = self.work.model.config.preprocess
        return torch.stack([pixels(self.world.tested.source[i], preprocess) for i in index.tolist()])


@functools.cache
def features(name: str) -> Features:
    """A model with its cached rows."""
    return Features(load(name), default_folder())


@functools.cache
def held() -> tuple[Sample, ...]:
    """All drawings of the styles that nothing here is trained on."""
    return tuple(sorted((*pictograms.samples("style"), *pictograms.samples("unseen")), key=lambda sample: sample.id))


def kinds(model: str = "mini", styles: Sequence[str] = ()) -> World:
    """Subgroups of Unicode's list in unseen styles; see the module. ``styles`` keeps the test to some of them."""
    concepts: dict[str, list[str]] = {}
    for sample in held():
        if sample.concept is not None and sample.concept not in concepts.setdefault(sample.meta["subgroup"], []):
            concepts[sample.meta["subgroup"]].append(sample.concept)
    names = sorted(name for name, members in concepts.items() if len(members) >= 2 * LEAST)
    half = {concept: i % 2 for name in names for i, concept in enumerate(shuffled(concepts[name], name))}
    label = {name: i for i, name in enumerate(names)}
    sides: list[list[Sample]] = [[], []]
    for sample in held():
        if sample.concept in half:
            sides[half[sample.concept]].append(replace(sample, label=label[sample.meta["subgroup"]]))
    tested = [sample for sample in sides[1] if not styles or sample.meta["style"] in styles]
    made = [as_material(f"kinds/{role}", source, names) for role, source in (("shots", sides[0]), ("test", tested))]
    where = f"{len(names)} kinds of drawings in unseen styles, {len(tested):,} test drawings of other concepts than the shots"
    return World("kinds", features(model), made[0], made[1], f"{model} on {where}")


def shuffled(members: list[str], name: str) -> list[str]:
    """In an order that the name fixes."""
    order = torch.randperm(len(members), generator=generator(0, "kinds", name)).tolist()
    return [members[i] for i in order]


def as_material(name: str, source: Sequence[Sample], classes: Sequence[str]) -> Material:
    """Samples with their labels as material of the classes."""
    print_ = hash_of([name, *(f"{sample.id}:{sample.label}" for sample in source)])
    return Material(name, "1", list(source), print_, tuple(one.replace("-", " ") for one in classes), TEMPLATES)


def photos(model: str = "pocket", limit: int = 600) -> World:
    """Photographs from ``$DIPTYCH_PHOTOS``, at most ``limit`` test pictures drawn once."""
    path = os.environ.get("DIPTYCH_PHOTOS")
    if not path:
        raise UsageError("photographs", "$DIPTYCH_PHOTOS is not set", "Set it to class folders or tars with a training and a test split")
    labelled, tested = splits(path, None, 0)
    name = os.path.basename(path.rstrip("/"))
    chosen = torch.randperm(len(tested.source), generator=generator(0, "photos"))[:limit].sort().values
    tested = tested.take(chosen)
    return World(name, features(model), labelled, tested, f"{model} on {name}, {len(tested.source)} test photographs")


def long_tail(world: World, most: int, least: int, seed: int) -> World:
    """Shots that fall from ``most`` to ``least`` a class along a power law; the case must take all of them."""
    label_N = table(world.labelled.source).label_N
    count, draw = len(world.labelled.classes), generator(seed, "long tail")
    picked = []
    for k in range(count):
        member = (label_N == k).nonzero()[:, 0]
        want = round(most * (least / most) ** (k / max(count - 1, 1)))
        picked.append(member[torch.randperm(len(member), generator=draw)][:want])
    return replace(world, labelled=world.labelled.take(torch.cat(picked).sort().values))
