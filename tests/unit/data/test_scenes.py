"""Scenes: boxes, masks, colours, captions and false captions are what they say; nothing of a test split is in training."""

from __future__ import annotations

import colorsys
import io
import random
import re

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

import diptych.data as data
from diptych.core.errors import UsageError
from diptych.core.types import Sample
from diptych.data import pictograms
from diptych.data.pictograms import scene_drawings as drawings
from diptych.data.pictograms import scene_words as words
from diptych.data.pictograms.scene_words import Named
from diptych.data.pictograms.scenes import SceneConfig, Scenes, mask, patch_labels
from diptych.data.sets.find import find

GROUND = (1, 254, 3)


def label(name: str) -> int:
    return [concept.name for concept in pictograms.concepts()].index(name)


def pixels(sample: Sample) -> np.ndarray:
    assert isinstance(sample.image, bytes)
    return np.asarray(Image.open(io.BytesIO(sample.image)))


def boxes(sample: Sample) -> list[list[int]]:
    side = len(pixels(sample))
    return [[round(edge * side) for edge in box] for box in sample.meta["boxes"]]


def stands(a: list[int], phrase: str, b: list[int]) -> bool:
    """The relation worked out again, from its words."""
    area_a, area_b = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return {
        "to the left of": a[2] <= b[0],
        "to the right of": b[2] <= a[0],
        "above": a[3] <= b[1],
        "below": b[3] <= a[1],
        "bigger than": area_a > 1.5 * area_b,
        "smaller than": 1.5 * area_a < area_b,
    }[phrase]


def true_of(caption: str, sample: Sample) -> bool:
    """Whether every clause of a caption names things that are there and stand so."""
    place = dict(zip(sample.meta["regions"], boxes(sample), strict=True))
    for clause in caption.split(", and "):
        match = re.fullmatch(r"(.+?) (?:to the (?:left|right) of|above|below|bigger than|smaller than) (.+)", clause)
        assert match, clause
        phrase = clause[len(match[1]) + 1 : len(clause) - len(match[2]) - 1]
        subject, other = (re.sub(r"^(a|an|the) ", "", name) for name in (match[1], match[2]))
        if subject not in place or other not in place or not stands(place[subject], phrase, place[other]):
            return False
    return True


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return list(Scenes("style", 150, SceneConfig(background=GROUND)))


def test_boxes_are_tight_and_masks_agree(samples):
    for sample in samples:
        labels = mask(sample)
        picture = pixels(sample)
        ground = (picture == GROUND).all(-1)
        assert labels.max() == len(sample.meta["boxes"]) == len(sample.meta["regions"])
        assert ground[labels == 0].all()
        assert ground[labels > 0].mean() < 0.05
        for number, (left, top, right, bottom) in enumerate(boxes(sample), start=1):
            down, across = np.nonzero(labels == number)
            assert (across.min(), down.min(), across.max() + 1, down.max() + 1) == (left, top, right, bottom)
            inside = labels[top:bottom, left:right]
            assert set(np.unique(inside)) <= {0, number}


def test_things_are_as_many_as_asked_and_do_not_touch():
    for config in (SceneConfig(count=(4, 4)), SceneConfig(count=(3, 3), grid=2, sides=(0.2, 0.6))):
        for sample in Scenes("train", 40, config):
            found = boxes(sample)
            assert len(found) == config.count[0]
            for i, a in enumerate(found):
                assert all(a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1] for b in found[:i])
    for sample in Scenes("train", 40, SceneConfig(count=(3, 3), grid=2, sides=(0.2, 0.6))):
        cells = {(left // 32, top // 32, (right - 1) // 32, (bottom - 1) // 32) for left, top, right, bottom in boxes(sample)}
        assert len(cells) == 3
        assert all(cell[:2] == cell[2:] for cell in cells)


def test_captions_are_true_and_swapped_ones_false(samples):
    kinds = set()
    for sample in samples:
        assert true_of(sample.captions[0], sample), sample.captions
        assert not true_of(sample.meta["swapped"], sample), sample.meta["swapped"]
        assert len(sample.captions) == 2
        assert all(region in sample.captions[1] for region in sample.meta["regions"])
        kinds.add(sample.meta["swap"])
        assert sample.meta["swap"] == ("colours" if sample.meta["colours"][0] else "order")
    assert kinds == {"colours", "order"}


def test_words_by_hand():
    car, dog = Named(label("automobile"), "red"), Named(label("dog"), None)
    glasses = Named(label("glasses"), "grey")
    assert (car.one, dog.one, glasses.one) == ("a red automobile", "a dog", "grey glasses")
    facts = [(0, "left", 1), (2, "above", 1)]
    assert words.relations([car, dog, glasses], facts) == "a red automobile to the left of a dog, and grey glasses above the dog"
    assert words.names_only([car, dog, glasses]) == "a red automobile, a dog and grey glasses"
    assert words.names_only([dog] * 3) == "three drawings of a dog"
    left, right = (0, 0, 10, 10), (10, 5, 16, 11)
    assert words.holds("left", left, right)
    assert not words.holds("left", (0, 0, 11, 10), right)
    assert words.holds("right", right, left)
    assert not words.holds("above", left, right)
    assert words.holds("bigger", left, right)
    assert not words.holds("bigger", left, (10, 5, 18, 13))
    assert words.holds("smaller", right, left)
    assert words.place_of((0, 0, 20, 20), 64) == "in the upper left corner"
    assert words.place_of((20, 44, 40, 64), 64) == "near the lower edge"
    assert words.place_of((22, 22, 42, 42), 64) == "in the middle"
    blue = Named(dog.label, "blue")
    assert words.swapped([car, blue], (2, 4)) == ("colours", [Named(car.label, "blue"), Named(dog.label, "red")])
    assert words.swapped([dog, Named(label("cat"), None)], (2, 4))[1][1] == dog
    assert len(words.swapped([dog] * 4, (1, 4))[1]) == 3
    assert len(words.swapped([dog], (1, 4))[1]) == 2


def test_counting_scenes_say_how_many():
    for sample in Scenes("style", 30, SceneConfig(same=1.0, count=(1, 4))):
        number = words.NUMBERS[len(sample.meta["boxes"])]
        assert sample.captions[0].startswith(f"{number} drawing")
        assert not sample.meta["swapped"].startswith(f"{number} ")
        assert sample.meta["swap"] == "count"
        assert len(set(sample.meta["labels"])) == 1


def test_long_captions_describe_every_thing_in_over_forty_words():
    for sample in Scenes("style", 30, SceneConfig(words="long")):
        (caption,) = sample.captions
        assert len(caption.split()) > 40
        assert all(caption.count(region) >= 2 for region in sample.meta["regions"])
        opening = caption.index(sample.meta["regions"][0])
        assert len(caption[:opening].split()) > 25
        assert sample.meta["swapped"] != caption


def test_tint_by_hand_and_by_hue():
    two = np.zeros((1, 3, 4), np.uint8)
    two[0, 0], two[0, 1] = (0, 0, 0, 255), (255, 255, 255, 200)
    tinted = drawings.tinted(two, "red")
    red = drawings.COLOURS["red"]
    assert tinted[0, 0].tolist() == [110, 15, 18, 255]
    assert tinted[0, 1].tolist() == [round(c + 0.45 * (255 - c)) for c in red] + [200]
    flat = np.full((2, 2, 4), 255, np.uint8)
    assert tinted.shape == two.shape
    assert drawings.tinted(flat, "blue")[..., :3].reshape(-1, 3).tolist() == [list(drawings.COLOURS["blue"])] * 4
    hues = {name: colorsys.rgb_to_hsv(*(c / 255 for c in rgb)) for name, rgb in drawings.COLOURS.items()}
    for sample in Scenes("style", 100, SceneConfig(tint=1.0)):
        labels, picture = mask(sample), pixels(sample) / 255
        assert len(set(sample.meta["colours"])) == len(sample.meta["colours"])
        for number, colour in enumerate(sample.meta["colours"], start=1):
            hue, full, _ = colorsys.rgb_to_hsv(*picture[labels == number].mean(0))
            away = {name: abs((hue - h[0] + 0.5) % 1 - 0.5) for name, h in hues.items() if name != "grey"}
            assert ("grey" if full < 0.1 else min(away, key=away.__getitem__)) == colour


def test_same_seed_same_bytes_and_another_seed_another_scene():
    first = [Scenes("validation", 10)[i] for i in range(10)]
    drawings.drawing.cache_clear()
    drawings.pool.cache_clear()
    again = Scenes("validation", 10)
    assert [again[i] for i in (9, 3)] == [first[9], first[3]]
    other = Scenes("validation", 10, seed=1)
    assert not {sample.captions for sample in first} & {sample.captions for sample in other}
    assert other.fingerprint() != again.fingerprint() != Scenes("validation", 10, SceneConfig(tint=0)).fingerprint()


def test_no_style_and_no_drawing_of_a_test_split_is_in_training():
    held = {"twemoji", "emojione", "emojione-monotone"}
    pools = {split: drawings.pool(split) for split in ("train", "validation", "style", "unseen")}
    assert set(pools["style"].by_style) == set(pools["unseen"].by_style) == held
    assert not set(pools["train"].by_style) & held
    for one in pools:
        for other in set(pools) - {one}:
            assert not set(pools[one].files) & set(pools[other].files)
    new = {row[0] for rows in pools["unseen"].by_style.values() for row in rows}
    assert not new & {row[0] for rows in pools["train"].by_style.values() for row in rows}
    assert all(pictograms.concepts()[i].unseen for i in new)


def test_unseen_combinations_are_kept_apart():
    def combinations(kind):
        config = SceneConfig(tint=1.0, combinations=kind)
        return {pair for s in Scenes("train", 200, config) for pair in zip(s.meta["labels"], s.meta["colours"], strict=True)}

    seen, unseen = combinations("seen"), combinations("unseen")
    assert not seen & unseen
    assert {colour for _, colour in unseen} == set(drawings.COLOURS)
    every = [drawings.unseen_colours(concept.id) for concept in pictograms.concepts()]
    assert 0.15 < sum(map(len, every)) / (len(every) * len(drawings.COLOURS)) < 0.25


def test_pictures_of_their_own_and_clock_faces_come_only_by_name():
    named = ("mountain", "tent", "watch", "dog", "banana", "violin")
    found = {region for sample in Scenes("train", 30, SceneConfig(concepts=named, tint=0.0)) for region in sample.meta["regions"]}
    assert found == set(named)
    assert label("tent") not in drawings.things()
    with pytest.raises(UsageError, match="'red apple'"):
        Scenes("train", config=SceneConfig(concepts=(*named, "red apple")))


def test_patch_labels_by_hand():
    labels = np.array([[0, 1, 2, 2], [1, 1, 2, 2], [0, 0, 0, 2], [0, 0, 2, 0]])
    assert patch_labels(labels, 2).tolist() == [[1, 2], [0, 0]]


def test_scattered_and_picks_are_fair():
    draw = random.Random(0)
    assert {drawings.whole(draw, 2, 4) for _ in range(100)} == {2, 3, 4}
    assert sorted(drawings.shuffled(draw, range(20))) == list(range(20))
    squares = drawings.scattered(draw, 64, (0.5, 0.9), 4)
    assert len(squares) == 4
    assert all(min(x, y) >= 0 and right <= 64 and bottom <= 64 for x, y, right, bottom in squares)


def test_scenes_are_an_ordinary_data_set(tmp_path):
    opened = data.open("scenes/style")
    assert len(opened) == 1024
    assert opened.sealed
    assert opened.captions(5) == opened[5].captions
    assert opened.fingerprint() == find("scenes/style").samples().fingerprint()  # type: ignore[union-attr]
    scenes = Scenes("style", 7, SceneConfig(tint=1.0))
    scenes.write(tmp_path, per_shard=4)
    read = data.open(tmp_path)
    assert read.shards == 2
    assert [(s.id, s.image, s.captions, s.meta) for s in read] == [(s.id, s.image, s.captions, s.meta) for s in scenes]
    assert (mask(read[3]) == scenes.scene(3).mask()).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"count": (1, 3)}, "count"),
        ({"count": (2, 5)}, "colours"),
        ({"sides": (0.5, 0.2)}, "sides"),
        ({"background": (0, 0, 300)}, "levels"),
    ],
)
def test_bad_settings_are_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        SceneConfig(**wrong)


def test_unknown_split_and_concept_are_one_clear_line():
    with pytest.raises(UsageError, match="Did you mean 'train'"):
        Scenes("trian")
    with pytest.raises(UsageError, match="no thing has this name"):
        Scenes("train", config=SceneConfig(concepts=("automobil", "dog")))
    with pytest.raises(UsageError, match="Name more concepts"):
        Scenes("train", config=SceneConfig(concepts=("automobile", "dog")))
    few = [concept.name for concept in pictograms.concepts() if drawings.unseen_colours(concept.id) == {"red"}]
    names = tuple(name for name in few if label(name) in drawings.things())
    with pytest.raises(UsageError, match="allow other combinations"):
        Scenes("train", config=SceneConfig(concepts=names, combinations="unseen", tint=1.0))[0]
