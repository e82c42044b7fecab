"""PictoBench: every answer is worked out again from pixels, boxes and words; whoever reads only the words is at chance."""

from __future__ import annotations

import collections
import io
import json
import re
import tarfile

import numpy as np
import pytest
from PIL import Image

import diptych
from diptych.core.types import Sample
from diptych.data import seal
from diptych.data.pictograms import bench_binding, bench_places, bench_scenes, bench_traps
from diptych.data.pictograms.bench_scenes import decode_mask, encode_mask
from diptych.data.pictograms.scene_drawings import COLOURS
from diptych.data.seal import SealedError
from diptych.data.sets import pictobench
from diptych.data.sets.find import find

NAMES = ("attributes", "relations", "counting", "regions", "ordering", "anomaly", "background", "association")
STYLES = {"twemoji", "emojione", "emojione-monotone"}


def samples_of(name: str) -> list[Sample]:
    return list(find(f"pictobench/{name}").samples())


def pixels(sample: Sample) -> np.ndarray:
    assert isinstance(sample.image, bytes)
    return np.asarray(Image.open(io.BytesIO(sample.image)))


def boxes(sample: Sample) -> list[list[int]]:
    return [[round(edge * 64) for edge in box] for box in sample.meta["boxes"]]


def crop(sample: Sample, number: int) -> np.ndarray:
    left, top, right, bottom = boxes(sample)[number]
    return pixels(sample)[top:bottom, left:right]


def colour_seen(part: np.ndarray) -> str:
    """The one of the six colours that the pixels of a tinted drawing lie nearest to, by direction from white–black (hue), or grey."""
    rgb = part.reshape(-1, 3).astype(float)
    chroma = rgb - rgb.mean(1, keepdims=True)
    ink = chroma[np.abs(chroma).max(1) > 12].sum(0)
    if np.linalg.norm(ink) < 1:
        return "grey"
    hues = {name: np.array(rgb, float) - np.mean(rgb) for name, rgb in COLOURS.items() if name != "grey"}
    return max(hues, key=lambda name: float(ink @ hues[name] / np.linalg.norm(hues[name])))


def by_pair(samples: list[Sample], field: str = "pair") -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.meta[field], []).append(sample)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_test_set_is_sealed_and_in_styles_never_trained_on(name):
    found, train = find(f"pictobench/{name}"), find(f"pictobench/{name}-train")
    samples = found.samples()
    assert found.sealed
    assert not train.sealed
    assert found.companions == {"train": train.name}
    assert {sample.meta["style"] for sample in samples} <= STYLES
    assert [sample.id for sample in samples] == sorted({sample.id for sample in samples})
    assert len({sample.image for sample in samples}) == len(samples)
    with pytest.raises(SealedError):
        seal.check(samples, sealed=found.sealed)
    assert all(pixels(sample).shape == (64, 64, 3) for sample in samples[:5])


def test_training_drawings_are_others():
    train = bench_traps.backgrounds("train", 1)
    assert not {sample.meta["style"] for sample in train} & STYLES
    seal.check(train, samples_of("background"), sealed=False)


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: bench_binding.attributes("style", 3, seed),
        lambda seed: bench_binding.relation_pairs("style", 1, seed),
        lambda seed: bench_binding.counting("style", 1, seed),
        lambda seed: bench_places.regions("style", 1, seed),
        lambda seed: bench_places.ordering("style", 1, seed),
        lambda seed: bench_places.anomalies("style", 3, seed),
        lambda seed: bench_traps.backgrounds("style", 1, seed),
        lambda seed: bench_traps.associations("style", 1, seed)[:40],
    ],
)
def test_a_seed_gives_the_same_samples_and_another_others(make):
    first, again, other = make(0), make(0), make(1)
    assert first == again
    assert [sample.image for sample in first] != [sample.image for sample in other]


@pytest.mark.parametrize(("name", "chance"), [("attributes", 1 / 2), ("relations", 1 / 2), ("counting", 1 / 7), ("association", 1 / 6)])
def test_words_alone_give_no_more_than_chance(name, chance):
    """The best that anyone can do who sees the captions and not the picture: the commonest answer to each question."""
    answers: dict[tuple, collections.Counter[int]] = {}
    samples = [sample for sample in samples_of(name) if sample.meta.get("group") != "known"]
    for sample in samples:
        question = (sample.meta["group"] if name == "association" else "", tuple(sample.meta["choices"]))
        answers.setdefault(question, collections.Counter())[sample.meta["answer"]] += 1
    best = sum(max(told.values()) for told in answers.values())
    assert best / len(samples) == pytest.approx(chance)
    assert find(f"pictobench/{name}").chance == pytest.approx(chance)


def test_the_others_colour_cannot_be_guessed_from_the_question():
    samples = [sample for sample in samples_of("association") if sample.meta["group"] == "free"]
    told = collections.Counter((sample.meta["asked"], sample.meta["other"]) for sample in samples)
    assert set(told.values()) == {1}
    assert len(told) == 18 * 6


def test_attributes_are_the_colours_in_the_boxes_and_exchanged_within_a_pair():
    for pair in by_pair(samples_of("attributes")).values():
        seen = []
        for sample in pair:
            told = [colour_seen(crop(sample, i)) for i in (0, 1)]
            assert told == sample.meta["colours"]
            true, false = sample.meta["choices"][sample.meta["answer"]], sample.meta["choices"][1 - sample.meta["answer"]]
            assert sample.captions == (true,)
            names = [region.removeprefix(f"{colour} ") for region, colour in zip(sample.meta["regions"], told, strict=True)]
            wanted = rf"(an? )?{told[0]} {re.escape(names[0])} and (an? )?{told[1]} {re.escape(names[1])}"
            assert re.fullmatch(wanted, true)
            assert not re.fullmatch(wanted, false)
            seen.append(told)
        assert seen[0] == seen[1][::-1]
        assert [sample.meta["answer"] for sample in pair] == [0, 1]
        assert pair[0].meta["boxes"] == pair[1].meta["boxes"]


def stands(a: list[int], phrase: str, b: list[int]) -> bool:
    area_a, area_b = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return {
        "to the left of": a[2] <= b[0],
        "to the right of": b[2] <= a[0],
        "above": a[3] <= b[1],
        "below": b[3] <= a[1],
        "bigger than": area_a > 1.6 * area_b,
        "smaller than": 1.6 * area_a < area_b,
    }[phrase]


def test_relations_hold_between_boxes_and_their_converse_does_not():
    samples = samples_of("relations")
    phrases = "to the left of|to the right of|above|below|bigger than|smaller than"
    for sample in samples:
        place = dict(zip(sample.meta["regions"], boxes(sample), strict=True))
        for index, caption in enumerate(sample.meta["choices"]):
            one, phrase, other = re.fullmatch(rf"(.+?) ({phrases}) (.+)", caption).groups()  # type: ignore[union-attr]
            first, second = (place[name if name in place else name.split(" ", 1)[1]] for name in (one, other))
            assert stands(first, phrase, second) == (index == sample.meta["answer"])
        inside = np.zeros((64, 64), bool)
        for left, top, right, bottom in boxes(sample):
            inside[top:bottom, left:right] = True
        assert (pixels(sample)[~inside] == 255).all()
    kinds = collections.Counter(sample.meta["group"] for sample in samples)
    assert set(kinds) == {"left", "right", "above", "below", "bigger", "smaller"}
    assert len(set(kinds.values())) == 1
    for pair in by_pair(samples).values():
        if pair[0].meta["group"] in ("left", "right", "above", "below"):
            assert all(np.array_equal(crop(pair[0], i), crop(pair[1], i)) for i in (0, 1))  # the same drawings, places exchanged


def test_counts_are_of_things_in_separate_cells():
    for sample in samples_of("counting"):
        answer, regions = sample.meta["answer"], sample.meta["regions"]
        cells = {((box[0] + box[2]) // 2 // 21, (box[1] + box[3]) // 2 // 21) for box in boxes(sample)}
        assert len(cells) == len(regions) == 6
        asked = re.sub(r"^(\w+) drawings? of (an? )?", "", sample.captions[0])
        assert regions.count(asked) == answer == int(sample.meta["group"])
        word = ("no", "one", "two", "three", "four", "five", "six")[answer]
        assert sample.captions[0].startswith(f"{word} drawing{'' if answer == 1 else 's'} of ")
        assert sample.meta["choices"][answer] == sample.captions[0]
        assert len(set(sample.meta["choices"])) == 7


def test_masks_fill_the_boxes_and_nothing_lies_outside_them():
    samples = samples_of("regions")
    for sample in samples:
        masks = [decode_mask(told) for told in sample.meta["masks"]]
        assert (np.sum(masks, axis=0) <= 1).all()
        assert (pixels(sample)[~np.any(masks, axis=0)] == 255).all()
        for mask, box in zip(masks, boxes(sample), strict=True):
            rows, columns = np.nonzero(mask)
            assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == box
    count = collections.Counter(region for sample in samples for region in sample.meta["regions"])
    assert set(count) == set(find("pictobench/regions").classes)
    assert len(set(count.values())) == 1


def test_run_lengths_are_those_of_coco():
    mask = np.array([[0, 1, 1], [0, 1, 0]], bool)  # by columns: 0 0, 1 1, 1 0
    assert encode_mask(mask) == {"size": [2, 3], "counts": [2, 3, 1]}
    assert encode_mask(~mask) == {"size": [2, 3], "counts": [0, 2, 3, 1]}
    draw = np.random.default_rng(0)
    for shape in ((1, 1), (5, 3), (8, 8)):
        for density in (0.0, 0.3, 1.0):
            mask = draw.random(shape) < density
            assert np.array_equal(decode_mask(encode_mask(mask)), mask)
    with pytest.raises(ValueError, match="runs of 5 pixels"):
        decode_mask({"size": [2, 3], "counts": [2, 3]})


def test_levels_are_numbers_of_things_and_sides_of_boxes():
    for members in by_pair(samples_of("ordering"), "list").values():
        kinds = {sample.meta["group"] for sample in members}
        assert len(kinds) == 1
        for sample in members:
            sides = [max(box[2] - box[0], box[3] - box[1]) for box in boxes(sample)]
            assert sample.meta["level"] == (len(sides) if kinds == {"count"} else sides[0])
        assert len({sample.meta["level"] for sample in members}) == len(members) == 6
        assert len({(sample.meta["low"], sample.meta["high"]) for sample in members}) == 1


def test_damage_is_exactly_what_differs_within_a_pair():
    samples = samples_of("anomaly")
    for whole, damaged in by_pair(samples).values():
        assert (whole.meta["damaged"], damaged.meta["damaged"]) == (False, True)
        differs = (pixels(whole) != pixels(damaged)).any(-1)
        assert np.array_equal(decode_mask(damaged.meta["damage"]), differs)
        assert not decode_mask(whole.meta["damage"]).any()
        rows, columns = np.nonzero(differs)
        assert max(np.ptp(rows), np.ptp(columns)) < 20
        assert differs.sum() >= 60
        assert whole.meta["name"] == damaged.meta["name"]
    assert {sample.concept for sample in samples[:12]} == {sample.concept for sample in bench_places.anomalies("train", 6)}


def test_every_picture_stands_on_both_grounds_and_in_training_on_its_own():
    samples, classes = samples_of("background"), find("pictobench/background").classes
    cells = collections.Counter((sample.label, sample.meta["background"]) for sample in samples)
    assert len(cells) == 24
    assert len(set(cells.values())) == 1
    for sample in samples:
        assert sample.label is not None
        assert sample.meta["regions"] == [classes[sample.label]]
        assert (sample.meta["group"] == "common") == (sample.meta["background"] == sample.meta["home"])
        left, top, right, bottom = boxes(sample)[0]
        outside = np.ones((64, 64), bool)
        outside[top:bottom, left:right] = False
        assert (pixels(sample)[outside] == bench_traps.GROUNDS[sample.meta["background"]]).all()
    homes = collections.Counter(bench_traps.HOME.values())
    assert homes["green"] == homes["blue"] == 6
    train = find("pictobench/background-train").samples()
    common = sum(sample.meta["group"] == "common" for sample in train)
    assert common / len(train) == pytest.approx(0.95, abs=0.005)


def test_colours_asked_for_are_in_the_boxes():
    for sample in samples_of("association"):
        told = [colour_seen(crop(sample, i)) for i in range(len(sample.meta["boxes"]))]
        assert told == sample.meta["colours"]
        choices, answer, other = (sample.meta[key] for key in ("choices", "answer", "other"))
        assert told[0] in choices[answer]
        assert sample.meta["asked"] in choices[answer]
        assert (other is None) == (len(told) == 1)
        if other is not None:
            assert told[1] in choices[other]
        if sample.meta["group"] == "known":
            assert told[0] == bench_traps.KNOWN[sample.meta["asked"]]
            assert told[0] != told[1]


@pytest.mark.parametrize("name", ["regions", "background"])
def test_a_peer_reads_the_shards(name, tmp_path):
    found = find(f"pictobench/{name}")
    wanted = {sample.id: sample for sample in found.samples()}
    paths = pictobench.write(f"pictobench/{name}", tmp_path)
    read: dict[str, dict[str, bytes]] = {}
    for path in paths:
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                key, suffix = member.name.rsplit(".", 1)
                read.setdefault(key, {})[suffix] = tar.extractfile(member).read()  # type: ignore[union-attr]
    assert set(read) == set(wanted)
    for key, parts in read.items():
        told = json.loads(parts["json"])
        assert tuple(told.pop("captions")) == wanted[key].captions
        assert told == wanted[key].meta
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(parts["png"]))), pixels(wanted[key]))
        assert (int(parts["cls"]) if "cls" in parts else None) == wanted[key].label
    opened = diptych.open(tmp_path)
    assert tuple(opened.classes or ()) == found.classes
    for sample in opened:
        assert (sample.image, sample.captions, sample.label) == (
            wanted[sample.id].image,
            wanted[sample.id].captions,
            wanted[sample.id].label,
        )
        assert dict(sample.meta) == wanted[sample.id].meta


def test_shards_are_cut(tmp_path):
    samples = bench_binding.attributes("style", 3)
    paths = bench_scenes.write(tmp_path, samples, per_shard=4)
    assert [path.name for path in paths] == ["0000.tar", "0001.tar"]
    assert [sample.id for sample in diptych.open(tmp_path)] == [sample.id for sample in samples]
