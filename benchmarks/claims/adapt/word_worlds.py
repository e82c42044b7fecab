"""Worlds for methods that start from words: single concepts, concepts under their other names, scenes that a seed draws anew.

Shapes: N pictures, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from worlds import TEMPLATES, Case, World, features, long_tail

from diptych.adapt.parts.words import described, renamed
from diptych.core.rng import generator
from diptych.core.types import Sample
from diptych.data import pictograms
from diptych.data.pictograms import bench_binding, bench_traps
from diptych.data.sets.find import find
from diptych.evaluate.material import Material, hash_of, material, table
from diptych.recipes.given import work_of


@dataclass(frozen=True, slots=True)
class Drawn(World):
    """A world whose case is made anew from each seed.

    Args:
        make: gives the case of a seed.
    """

    make: Callable[[Drawn, int], Case]

    def case(self, shots: int | None, seed: int, free: Material | None = None) -> Case:
        """The seed's case; it has the labelled pictures that it has."""
        return self.make(self, seed)


def gathered(name: str, source: Sequence[Sample], classes: Sequence[str]) -> Material:
    """Samples as material of the classes, names as they are."""
    print_ = hash_of([name, *classes, *(f"{sample.id}:{sample.label}" for sample in source)])
    return Material(name, "1", list(source), print_, tuple(classes), TEMPLATES)


def of_concepts(name: str, about: str, names: dict[str, str], model: str = "mini") -> World:
    """Concepts (id → class name) that were trained on: shots in the trained styles, test in unseen ones."""
    label = {identity: i for i, identity in enumerate(names)}

    def part(samples: Sequence[Sample]) -> list[Sample]:
        return [replace(sample, label=label[sample.concept]) for sample in samples if sample.concept in label]

    shots, test = part(find("pictograms/fit").read_samples()), part(pictograms.samples("style"))
    made = [gathered(f"{name}/{role}", source, list(names.values())) for role, source in (("shots", shots), ("test", test))]
    return World(name, features(model), made[0], made[1], f"{model} on {about}, {len(test):,} test drawings in unseen styles")


def things(group: str) -> World:
    """Trained concepts of one Unicode group."""
    names = {concept.id: concept.name for concept in pictograms.concepts() if concept.group == group and not concept.unseen}
    return of_concepts(f"things/{group}", f"{len(names)} concepts of {group}", names)


def unseen() -> World:
    """Concepts never trained on, in unseen styles; no shots."""
    tested = material("pictograms/unseen")
    none = tested.take(torch.zeros(0, dtype=torch.int64))
    return World("unseen", features("mini"), none, tested, f"mini on {len(tested.classes)} concepts never trained on, in unseen styles")


def other_names(most: int = 7, least: int = 1) -> tuple[Drawn, dict[str, list[str]]]:
    """Trained concepts under the other name that Unicode once had for them, with shots along a power law; and their usual names by these.

    Captions say the usual name about three times for each time that they say the other one.
    """
    named: dict[str, str] = {}
    for concept in pictograms.concepts():
        other = renamed([concept.name])[0]
        if other and not concept.unseen and other[0] not in named.values():
            named[concept.id] = other[0]
    base = of_concepts("other names", f"{len(named)} concepts under a name that captions seldom say", named)
    usual = {concept.id: concept.name for concept in pictograms.concepts()}

    def make(world: Drawn, seed: int) -> Case:
        return World.case(long_tail(base, most, least, seed), None, seed)

    about = f"{base.about}; {most} to {least} captioned drawings a concept"
    world = Drawn(base.name, base.features, base.labelled, base.tested, about, make)
    return world, {other: [usual[identity]] for identity, other in named.items()}


def scenes(name: str, draw: Callable[[int], Sequence[Sample]], classes: Sequence[str], about: str) -> Drawn:
    """Test scenes of unseen styles, other ones for each seed; no shots. ``label_N`` is the answer where there are choices."""
    none = gathered(f"{name}/none", (), classes)

    def make(world: Drawn, seed: int) -> Case:
        tested = gathered(f"{name}/{seed}", draw(seed), classes)
        known, read = table(tested.source), world.features
        answer_N = torch.tensor([sample.meta.get("answer", sample.label) for sample in tested.source])
        unit: dict[str, int] = {}
        unit_N = torch.tensor(
            [unit.setdefault(str(s.meta.get("pair", s.meta.get("drawing", i))), len(unit)) for i, s in enumerate(tested.source)]
        )
        work = work_of(read, none, tested, None, seed)
        assert len(known) == len(answer_N)
        return Case(replace(world, tested=tested), work, read.images(tested.source, tested.fingerprint), answer_N, unit_N, seed)

    return Drawn(name, features("mini"), none, none, f"mini on {about} in unseen styles, other scenes for each draw", make)


def grounds(copies: int = 2) -> Drawn:
    """One of twelve things on the ground it was mostly seen on, and on the other one."""
    return scenes(
        "grounds", lambda seed: bench_traps.backgrounds("style", copies, seed), bench_traps.CLASSES, "things on a green or a blue ground"
    )


def bindings(which: str, pairs: int) -> Drawn:
    """Two pictures and two captions: colours exchanged (``attributes``) or places (``relations``)."""
    made = bench_binding.attributes if which == "attributes" else bench_binding.relation_pairs
    return scenes(
        which, lambda seed: made("style", pairs, seed), ("a", "b"), f"scenes of two things, {which} exchanged in the other caption"
    )


def coined(identity: str, seed: int) -> str:
    """A word of three syllables that nothing was ever called, by the concept and the seed."""
    draw = generator(seed, "coined", identity)
    heads, tails = "bdfgklmnprstvz", "aeiou"
    picks = torch.randint(0, 14 * 5, (3,), generator=draw).tolist()
    return "".join(heads[pick % 14] + tails[pick // 14] for pick in picks)


def jargon(group: str, seeds: Sequence[int]) -> tuple[Drawn, dict[str, list[str]]]:
    """Trained concepts of one group under coined names, other ones for each seed; and what keywords say of each of these names."""
    concepts = [concept for concept in pictograms.concepts() if concept.group == group and not concept.unseen]
    words = described([concept.name for concept in concepts])
    base = things(group)

    def named(seed: int) -> dict[str, str]:
        return {concept.id: coined(concept.id, seed) for concept in concepts}

    def make(world: Drawn, seed: int) -> Case:
        return World.case(of_concepts(f"jargon/{group}/{seed}", "", named(seed)), 0, seed)

    told = {name: list(some) for seed in seeds for name, some in zip(named(seed).values(), words, strict=True)}
    about = base.about.replace(f"concepts of {group}", f"concepts of {group} under coined names")
    return Drawn(base.name, base.features, base.labelled, base.tested, about, make), told
