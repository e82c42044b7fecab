"""The sets on the corpus: what each holds, which labels, and what may be trained on."""

from __future__ import annotations

import pytest

from diptych.core.errors import UsageError
from diptych.data import pictograms
from diptych.data.sets.find import find
from diptych.data.sets.find import names as all_names
from diptych.data.sets.pictograms import LANGUAGES, TEMPLATES


def names() -> list[str]:
    return [name for name in all_names() if name.startswith("pictograms")]


def test_asked_for_sets_are_there() -> None:
    asked = {"pictograms", *(f"pictograms/{name}" for name in ("train", "validation", "zero-shot", "unseen", "groups", "retrieval"))}
    asked |= {f"pictograms/{kind}-{language}" for kind in ("zero-shot", "retrieval") for language in LANGUAGES}
    assert asked <= set(names())
    with pytest.raises(UsageError, match="Did you mean 'pictograms/unseen'"):
        find("pictograms/unseeen")


@pytest.mark.parametrize("name", names())
def test_labels_are_inside_the_classes_and_chance_is_one_over_them(name: str) -> None:
    chosen = find(name)
    samples, classes = chosen.samples(), chosen.classes
    assert [sample.id for sample in samples] == sorted({sample.id for sample in samples})
    assert all("{}" in template for template in chosen.templates)
    if "zero_shot" in chosen.tasks:
        labels = {sample.label for sample in samples}
        assert labels <= set(range(len(classes)))
        assert chosen.chance == pytest.approx(1 / len(classes))
        assert chosen.metric == "top1"
        if chosen.sealed:
            assert labels == set(range(len(classes)))
    if chosen.sealed and name != "pictograms/unseen-known-styles":
        assert {sample.meta["style"] for sample in samples} <= {"twemoji", "emojione", "emojione-monotone"}


def test_no_test_picture_is_in_training_or_validation() -> None:
    trained = {sample.id for name in ("pictograms/train", "pictograms/validation") for sample in find(name).samples()}
    tested = {sample.id for name in names() if find(name).sealed for sample in find(name).samples()}
    assert not trained & tested
    assert not {s.id for s in find("pictograms/train").samples()} & {s.id for s in find("pictograms/validation").samples()}
    assert len(trained) + len(tested) == pictograms.summary()["images"]


def test_unseen_is_145_way_with_its_own_names() -> None:
    unseen = find("pictograms/unseen")
    assert len(unseen.classes) == 145
    by_id = {concept.id: concept for concept in pictograms.concepts()}
    for sample in unseen.samples():
        assert sample.concept is not None
        assert sample.label is not None
        assert unseen.classes[sample.label] == by_id[sample.concept].name
        assert by_id[sample.concept].unseen


def test_zero_shot_in_german_names_the_same_pictures() -> None:
    english, german = find("pictograms/zero-shot"), find("pictograms/zero-shot-de")
    apple = english.classes.index("red apple")
    assert german.classes[apple] == "roter Apfel"
    assert [sample.label for sample in german.samples()] == [sample.label for sample in english.samples()]
    assert set(TEMPLATES) == {"en", *LANGUAGES}


def test_retrieval_has_one_picture_a_concept_and_several_captions() -> None:
    for language in ("", *(f"-{language}" for language in LANGUAGES)):
        chosen = find(f"pictograms/retrieval{language}")
        samples = chosen.samples()
        assert len({sample.concept for sample in samples}) == len(samples) == 1446
        assert sum(len(sample.captions) for sample in samples) > 2.5 * len(samples)
        assert all(len(set(sample.captions)) == len(sample.captions) >= 1 for sample in samples)
        assert chosen.chance == pytest.approx(10 / 1446)
    german = {sample.concept: sample for sample in find("pictograms/retrieval-de").samples()}
    assert german["1f34e"].captions[0] == "roter Apfel"


def test_groups_label_the_kind_of_thing() -> None:
    groups = find("pictograms/groups")
    kinds = {sample.meta["group"]: groups.classes[sample.label or 0] for sample in groups.samples()}
    assert kinds["food-drink"] == "food or a drink"
    assert len(kinds) == len(groups.classes) == 8
    food = find("pictograms/groups/food-drink")
    assert {sample.meta["group"] for sample in food.samples()} == {"food-drink"}
    assert len(food.classes) == sum(concept.group == "food-drink" for concept in pictograms.concepts())
