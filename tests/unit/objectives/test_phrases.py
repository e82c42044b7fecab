"""The rule-based scene graph: what is exchanged, and that an exchange never restates the caption."""

from __future__ import annotations

import random

import pytest

from diptych.data.pictograms.scenes import Scenes
from diptych.objectives.parts.phrases import CLASSES, exchanges, parse, replacements, say, stated, triples


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("An astronaut rides a horse", ["A horse rides an astronaut"]),
        (
            "a red apple to the left of a blue car.",
            ["a blue apple to the left of a red car.", "a blue car to the left of a red apple."],
        ),
        ("a red apple and a green pear", ["a green apple and a red pear"]),  # a list has no order to exchange
        ("a small dog is next to a big cat", ["a big dog is next to a small cat"]),  # nor has a mutual relation
        ("two dogs chase a cat", ["two cat chase a dogs"]),  # the word before a determiner is the verb
        ("two dogs and a cat", []),
        ("a goat", []),
        ("goat, animal, farm", []),
        ("", []),
        ("a", []),
        ("a red cup beside a red cup", []),
        ("an owl in a tree", ["a tree in an owl"]),
        (
            "a red car to the left of a house, and a dog above the red car",
            # every mention goes along
            [
                "a car to the left of a red house, and a dog above the car",
                "a house to the left of a red car, and a dog above the house",
                "a car to the left of a house, and a red dog above the car",
                "a dog to the left of a house, and a red car above the dog",
                "a red car to the left of a dog, and a house above the red car",
            ],
        ),
        # both stand left of the dog: exchanging them would say the same
        (
            "a car to the left of a dog, and a bird to the left of the dog",
            [
                "a dog to the left of a car, and a bird to the left of the car",
                "a car to the left of a bird, and a dog to the left of the bird",
            ],
        ),
    ],
)
def test_exchanges_by_hand(caption, expected):
    assert exchanges(caption) == expected


def test_a_graph_by_hand():
    before, phrases = parse("Here: a black cat sits above the tall red house, and a sun is to the right of the house.")
    assert before == ("Here", ":")
    assert [phrase.thing for phrase in phrases] == ["black cat", "tall red house", "sun", "house"]
    assert list(triples(phrases)) == [("black cat", "sits above", "tall red house"), ("sun", "is to the right of", "house")]


def test_scenes_are_parsed_and_said_again():
    """Of 100 scenes nine in ten have an exchange; saying a graph gives the caption back; every exchange states something else."""
    scenes, found, canonical = Scenes("train", 100), 0, 0
    for i in range(100):
        scene = scenes.scene(i)
        caption, false = scene.captions()[0], scene.false()[1]
        assert say(*parse(caption)) == caption
        made = exchanges(caption)
        found += bool(made)
        canonical += false in made
        for text in made:
            assert stated(parse(text)[1]) != stated(parse(caption)[1])
    assert found >= 90
    assert canonical >= 65  # the swap that the scene's own metadata names


def test_a_replacement_is_of_the_same_class_and_never_the_same_word():
    for seed in range(40):
        made = replacements("A red apple above two small cars", random.Random(seed))
        assert len(made) == 4
        words = [text.split() for text in made]
        assert words[0][1] in set(CLASSES["colour"]) - {"red"}
        assert words[1][3] == "below"
        assert words[2][4] in set(CLASSES["count"]) - {"two"}
        assert words[3][5] in set(CLASSES["size"]) - {"small"}
    assert replacements("a goat", random.Random(0)) == []


def test_the_article_fits_the_next_word():
    made = replacements("a red apple", random.Random(0))
    everything = {text for seed in range(60) for text in replacements("a red apple", random.Random(seed))}
    assert made
    assert "an orange apple" in everything
    assert "a orange apple" not in everything
