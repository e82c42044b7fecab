"""The embedded corpus: counts, splits, pictures, words, licences."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest
from PIL import Image

from diptych.core.errors import UsageError
from diptych.core.types import Sample
from diptych.data import open as opening
from diptych.data import pictograms
from diptych.data.pictograms.build import ALLOWED
from diptych.data.sets.pictograms import LANGUAGES

HELD = {"twemoji", "emojione", "emojione-monotone"}
FLUENT = {"fluent-flat", "fluent-color", "fluent-high-contrast", "fluent-3d"}


@pytest.fixture(scope="module")
def everything() -> dict[str, list[Sample]]:
    return {split: pictograms.samples(split) for split in pictograms.SPLITS}


def test_counts(everything: dict[str, list[Sample]]) -> None:
    concepts, summary = pictograms.concepts(), pictograms.summary()
    assert len(concepts) == summary["concepts"] == 1446
    assert sum(c.unseen for c in concepts) == summary["unseen"] == 145
    assert sum(map(len, everything.values())) == summary["images"] == 12685
    for style in summary["styles"]:
        counted = {split: sum(s.meta["style"] == style["id"] for s in samples) for split, samples in everything.items()}
        assert counted == {split: style[split] for split in pictograms.SPLITS}


def test_ids_are_unique_and_labels_point_at_their_concept(everything: dict[str, list[Sample]]) -> None:
    found = [sample for samples in everything.values() for sample in samples]
    assert len({sample.id for sample in found}) == len(found)
    for sample in found:
        concept = pictograms.concepts()[sample.label or 0]
        assert (concept.id, concept.captions, concept.group) == (sample.concept, sample.captions, sample.meta["group"])
        assert sample.id == f"{sample.meta['style']}_{sample.concept}"


def test_nothing_held_is_trained_on(everything: dict[str, list[Sample]]) -> None:
    unseen = {concept.id for concept in pictograms.concepts() if concept.unseen}
    for split, held, novel in (
        ("train", False, False),
        ("validation", False, False),
        ("style", True, False),
        ("unseen", True, True),
        ("concept", False, True),
    ):
        assert everything[split]
        assert {sample.meta["style"] in HELD for sample in everything[split]} == {held}
        assert {sample.concept in unseen for sample in everything[split]} == {novel}


def test_splits_are_by_family_and_concept(everything: dict[str, list[Sample]]) -> None:
    where = defaultdict(set)
    families = defaultdict(set)
    for split, samples in everything.items():
        for sample in samples:
            where[sample.meta["family"], sample.concept].add(split)
            families[sample.meta["family"]].add(sample.meta["style"])
    assert all(len(splits) == 1 for splits in where.values())
    assert families["fluent"] == FLUENT
    cells = [splits for (family, _), splits in where.items() if splits & {"train", "validation"}]
    assert sum(splits == {"validation"} for splits in cells) == round(0.05 * len(cells))


def test_unseen_concepts_are_spread_over_the_groups() -> None:
    of = Counter(concept.group for concept in pictograms.concepts())
    unseen = Counter(concept.group for concept in pictograms.concepts() if concept.unseen)
    for group, count in of.items():
        assert abs(unseen[group] - 145 * count / 1446) < 1
    assert len(of) == 8


def test_no_flags_skin_tones_or_gender_variants() -> None:
    for concept in pictograms.concepts():
        points = [int(point, 16) for point in concept.id.split("-")]
        assert not any(0x1F3FB <= point <= 0x1F3FF or 0x1F1E6 <= point <= 0x1F1FF for point in points)
        joined = 0x200D in points
        assert not (joined and {0x1F468, 0x1F469, 0x2640, 0x2642} & set(points))
        assert concept.group not in ("flags", "component")
    assert {"1f9d1", "1f46e", "1f468", "1f469"} <= {concept.id for concept in pictograms.concepts()}


def test_every_picture_decodes_and_shows_something(everything: dict[str, list[Sample]]) -> None:
    for samples in everything.values():
        for sample in samples:
            assert isinstance(sample.image, bytes)
            image = Image.open(io.BytesIO(sample.image))
            assert (image.format, image.size) == ("WEBP", (64, 64))
            assert image.mode in ("RGBA", "RGB")  # WebP drops an alpha that is opaque everywhere
            pixels = np.asarray(image.convert("RGBA"))
            assert (pixels[..., 3] > 0).mean() > 0.04, sample.id
            assert np.ptp(pixels[..., 3]) > 0 or np.ptp(pixels[..., :3]) > 0, sample.id


def test_known_drawings_have_their_colours(everything: dict[str, list[Sample]]) -> None:
    found = {sample.id: sample for samples in everything.values() for sample in samples}
    for concept, channel in (("1f7e5", 0), ("1f7e9", 1), ("1f7e6", 2)):  # red, green, blue square
        for style in ("noto", "fluent-flat", "fluent-color", "fluent-3d", "twemoji"):
            pixels = np.asarray(Image.open(io.BytesIO(found[f"{style}_{concept}"].image)).convert("RGBA"))  # type: ignore[arg-type]
            mean = pixels[pixels[..., 3] == 255][:, :3].mean(0)
            assert mean.argmax() == channel, (style, concept)


def test_words_that_meant_another_thing_are_not_mixed_up(everything: dict[str, list[Sample]]) -> None:
    ids = {sample.id for samples in everything.values() for sample in samples}
    for style in ("noto-v1", "emojione"):
        assert f"{style}_1f997" not in ids  # the insect: these editions drew only the game
        assert f"{style}_1f3cf" in ids
        assert f"{style}_1f52b" not in ids  # a revolver there, a toy today
    assert "fxemoji_1f408" in ids
    assert "fxemoji_1f638" not in ids  # it drew foxes instead of cats


def test_names_and_keywords_in_every_language() -> None:
    concepts = pictograms.concepts()
    assert len(concepts[0].names) == 28
    for language in ("en", *LANGUAGES):
        assert all(concept.names[language].strip() for concept in concepts)
        assert sum(bool(concept.keywords[language]) for concept in concepts) > 0.9 * len(concepts)
    for language, low, high in (("ru", 0x400, 0x4FF), ("zh", 0x4E00, 0x9FFF), ("ko", 0xAC00, 0xD7A3), ("hi", 0x900, 0x97F)):
        share = np.mean([any(low <= ord(letter) <= high for letter in concept.names[language]) for concept in concepts])
        assert share > 0.95, language


def test_captions_are_distinct_and_mean_one_concept() -> None:
    seen = Counter(caption.casefold() for concept in pictograms.concepts() for caption in concept.captions)
    assert set(seen.values()) == {1}
    assert all(len(concept.captions) >= 2 and concept.captions[0] == concept.name for concept in pictograms.concepts())
    apple = next(concept for concept in pictograms.concepts() if concept.id == "1f34e")
    assert apple.captions[:2] == ("red apple", "a red apple")
    assert (apple.names["de"], apple.names["fr"]) == ("roter Apfel", "pomme rouge")


def test_every_style_has_a_licence_and_a_notice() -> None:
    notice = (pictograms.path() / "NOTICE").read_text(encoding="utf-8")
    datasheet = (pictograms.path() / "DATASHEET.md").read_text(encoding="utf-8")
    for style in pictograms.summary()["styles"]:
        assert style["licence"] in ALLOWED
        assert (pictograms.path() / "licences" / f"{style['licence']}.txt").is_file()
        for text in (notice, datasheet):
            assert f"{style['package']} {style['version']}" in text
    for source in pictograms.summary()["text"]:
        assert f"{source['package']} {source['version']}" in notice
    for holder in ("Google", "Microsoft", "Mozilla", "Twitter", "EmojiOne", "Miles Johnson", "Mu-An Chiou", "Unicode, Inc."):
        assert holder in notice


def test_shards_are_read_by_the_ordinary_reader(everything: dict[str, list[Sample]]) -> None:
    dataset = opening.open(pictograms.path("validation"))
    mine = everything["validation"]
    assert list(dataset.ids) == [sample.id for sample in mine]
    for index in (0, len(mine) // 2, len(mine) - 1):
        other = dataset.sample(index)
        assert (other.image, tuple(other.captions), other.meta["style"]) == (
            mine[index].image,
            mine[index].captions,
            mine[index].meta["style"],
        )


def test_only_the_styles_that_are_asked_for() -> None:
    assert {sample.meta["style"] for sample in pictograms.samples("validation", ["noto", "fxemoji"])} == {"noto", "fxemoji"}
    with pytest.raises(UsageError, match="Did you mean 'twemoji'"):
        pictograms.samples("style", ["twemojy"])
    with pytest.raises(UsageError, match="Did you mean 'train'"):
        pictograms.samples("trian")


def test_reading_concepts_imports_nothing_heavy() -> None:
    code = "import sys, json; from diptych.data import pictograms as p; p.concepts(); p.summary(); print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert not {"torch", "numpy", "PIL", "pyarrow"} & set(loaded)
