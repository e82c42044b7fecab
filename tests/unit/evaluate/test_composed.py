"""Composed queries: the embedded set's answers are exact, ranks equal a loop, and the composition must beat both of its halves."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.core.types import Sample
from diptych.data.sets.find import find
from diptych.evaluate.features import Features
from diptych.evaluate.material import Material, material, table
from diptych.evaluate.outcome import Question
from diptych.evaluate.protocols import composed_retrieval as protocol
from diptych.evaluate.report import figures
from diptych.evaluate.run import evaluate
from diptych.evaluate.view import View

THINGS, COLOURS = ("car", "dog", "house"), ("red", "blue", "green")


class TwoHalves:
    """A row is a thing's and a colour's vectors side by side; words name one of them. ``deaf`` hears no words, ``blind`` sees nothing."""

    def __init__(self, deaf: bool = False, blind: bool = False) -> None:
        self.deaf, self.blind, self.config = deaf, blind, SimpleNamespace(name="halves")

    def fingerprint(self) -> str:
        return f"{self.deaf}{self.blind}"

    def row(self, text: str) -> torch.Tensor:
        row = torch.tensor([float(word in text) for word in (*THINGS, *COLOURS)])
        return torch.nn.functional.normalize(row + 1e-3 * torch.arange(6), dim=0)

    def encode_image(self, images, batch_size: int = 64, progress: bool = False) -> torch.Tensor:
        noise = torch.randn(len(images), 6, generator=generator(0, "noise"))
        rows = torch.stack([self.row(sample.id) for sample in images])
        return torch.nn.functional.normalize(noise, dim=1) if self.blind else rows

    def encode_text(self, texts, batch_size: int = 64, progress: bool = False) -> torch.Tensor:
        return torch.stack([self.row("" if self.deaf else text) for text in texts])


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 99, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def world() -> Material:
    samples = []
    for t, thing in enumerate(THINGS):
        for c, colour in enumerate(COLOURS):
            to_colour, to_thing = COLOURS[(c + 1) % 3], THINGS[(t + 1) % 3]
            asked = [
                {"words": to_colour, "target": f"{thing}-{to_colour}", "kind": "colour"},
                {"words": f"a {to_thing}", "target": f"{to_thing}-{colour}", "kind": "thing"},
            ]
            samples.append(Sample(f"{thing}-{colour}", picture(), (f"a {colour} {thing}",), concept=thing, meta={"composed": asked}))
    return Material("world", "1", samples, "world")


def by_metric(records):
    return {record.metric: record for record in records}


def test_ranks_equal_their_loop():
    image, query = (torch.nn.functional.normalize(torch.randn(n, 4, generator=generator(n)), dim=1) for n in (17, 29))
    target, asker = (torch.randint(17, (29,), generator=generator(seed)) for seed in (1, 2))
    image[5] = image[3]
    by_hand = []
    for q in range(29):
        score = [float(query[q].double() @ image[i].double()) for i in range(17)]
        others = [i for i in range(17) if i not in (int(target[q]), int(asker[q]))]
        by_hand.append(sum(score[i] >= score[int(target[q])] - 1e-12 for i in others))
    assert protocol.ranks(query, image, target, asker, block=7).tolist() == by_hand


def test_who_sees_and_hears_beats_both_halves(world):
    found = by_metric(evaluate(TwoHalves(), world, protocols=["composed_retrieval"], cache=False))
    assert found["composed_r@1"].value > found["picture_only_r@1"].value
    assert found["composed_r@1"].value > found["words_only_r@1"].value
    assert found["composed_r@1"].chance == pytest.approx(1 / 8)
    assert found["composed_r@5"].chance == pytest.approx(5 / 8)
    assert found["composed_r@1"].n == 3
    better = max(found["picture_only_r@1"].value, found["words_only_r@1"].value)
    assert found["composed_over_half"].value == pytest.approx(found["composed_r@1"].value - better)
    halves = [found[f"composed_r@1[{kind}]"].value for kind in ("colour", "thing")]
    assert found["composed_r@1"].value == pytest.approx(sum(halves) / 2)


def test_who_does_not_see_gains_nothing_from_pictures(world):
    found = by_metric(evaluate(TwoHalves(blind=True), world, protocols=["composed_retrieval"], cache=False))
    assert (
        found["composed_r@1"].value
        < 0.5 * by_metric(evaluate(TwoHalves(), world, cache=False, protocols=["composed_retrieval"]))["composed_r@1"].value
    )


def test_who_does_not_hear_gains_nothing_from_words(world):
    found = by_metric(evaluate(TwoHalves(deaf=True), world, protocols=["composed_retrieval"], cache=False))
    assert found["composed_over_half"].value == 0
    assert found["composed_r@1"].value == found["picture_only_r@1"].value


def question_of(model, data: Material) -> Question:
    words, features = table(data.source), Features(model, None)
    rows = features.images(data.source, "")
    return Question(rows, words, features.texts, (), (), View(features, data, torch.arange(len(words)), 0))


def test_refusals_and_lost_targets(world):
    assert protocol.applies(question_of(TwoHalves(), world))
    plain = [replace(sample, meta={}) for sample in world.source]
    assert not protocol.applies(question_of(TwoHalves(), replace(world, source=plain)))
    few = world.take(torch.tensor([0, 1]))
    assert protocol.asked(question_of(TwoHalves(), few)).words == ("blue",)
    with pytest.raises(UsageError, match="no target is among the pictures"):
        protocol.asked(question_of(TwoHalves(), world.take(torch.tensor([0]))))
    wrong = [replace(world.source[0], meta={"composed": [{"target": "car-blue"}]}), *world.source[1:]]
    with pytest.raises(UsageError, match="no words or no target"):
        protocol.asked(question_of(TwoHalves(), replace(world, source=wrong)))


def test_the_figures(world):
    outcome = protocol.run(question_of(TwoHalves(), world))
    shown = protocol.section(outcome, SimpleNamespace(name=lambda i: f"{i:016x}.webp"))["figures"]
    for figure in shown:
        figures.parse(figure)
    curves = {series["name"]: dict(map(tuple, series["points"])) for series in shown[0]["series"]}
    value = {metric.name: float(metric.value_N.mean()) for metric in outcome.metrics}
    assert curves["another colour"][0.5] == pytest.approx(value["composed_r@1[colour]"], abs=1e-4)
    assert curves["another thing"][1.0] == pytest.approx(value["words_only_r@1[thing]"], abs=1e-4)
    notes = [item["note"] for item in shown[1]["items"]][1::2]
    assert notes[0] == "right"
    assert all(note == "right" or note.startswith("wrong; the right one was number ") for note in notes)


def test_the_embedded_set_has_exact_answers():
    found = find("scenes/composed")
    samples = {sample.id: sample for sample in found.samples()}
    assert len(samples) == 48 * 6
    assert found.sealed
    assert found.chance == pytest.approx(1 / 287)
    for sample in samples.values():
        colour, thing = sample.meta["composed"]
        target = samples[colour["target"]]
        assert (target.concept, target.meta["colour"]) == (sample.concept, colour["words"])
        assert colour["words"] != sample.meta["colour"]
        target = samples[thing["target"]]
        assert target.meta["colour"] == sample.meta["colour"]
        assert target.concept != sample.concept
        assert thing["words"].split(" ", 1)[-1] in target.captions[0]
    assert len({sample.image for sample in samples.values()}) == 288
    assert material("scenes/composed").protocols == ("composed_retrieval",)


def test_the_embedded_pictures_have_their_colours():
    """The mean hue of what is drawn is nearest to the tint that the caption says."""
    from diptych.data.pictograms.scene_drawings import COLOURS as TINTS

    for sample in find("scenes/composed").samples()[::7]:
        rgb = np.asarray(Image.open(io.BytesIO(sample.image)).convert("RGB"), dtype=float).reshape(-1, 3)
        drawn = rgb[(rgb < 250).any(1)].mean(0)
        tint = drawn - drawn.mean()
        centred = {name: np.array(rgb) - np.mean(rgb) for name, rgb in TINTS.items() if name != "grey"}
        nearest = max(centred, key=lambda name: tint @ centred[name] / np.linalg.norm(centred[name]))
        nearest = "grey" if np.linalg.norm(tint) < 8 else nearest
        assert nearest == sample.meta["colour"], sample.id
