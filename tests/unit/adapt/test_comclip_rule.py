"""ComCLIP with windows of a grid: phrases, windows, what is painted over, the loop, and scenes of two things with swapped colours."""

from __future__ import annotations

import itertools
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from bag_of_words import WIDTH, shots_of, word
from torch.nn import functional as F

import diptych
from diptych.adapt.parts.captioned import phrases
from diptych.adapt.parts.windows import Painter, windows
from diptych.adapt.zero_shot.comclip import comclip, worth

COLOURS, SHAPES = ("", "red", "green", "blue"), ("", "square", "circle", "star")
LOOP = runpy.run_path(str(Path(__file__).resolve().parents[2] / "reference" / "comclip.py"))["logit"]


class Scenes:
    """Sees which colours and which shapes there are, and every pairing of the two: whole scenes do not say what belongs to what.

    A pixel's first channel is its colour's number and its second the shape's; 0 is nothing. A text has its words and pairs of neighbours.
    """

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.config = SimpleNamespace(preprocess=SimpleNamespace(fill=(0, 0, 0)))

    def image_features(self, pixels):
        return torch.stack([F.normalize(self._seen(picture), dim=0) for picture in pixels])

    def _seen(self, picture):
        share = [[float((picture[channel] == i).float().mean()) for i in range(4)] for channel in (0, 1)]
        row = 0.2 * word("left")  # a picture always says a little of a place
        for c in range(1, 4):
            row = row + share[0][c] * word(COLOURS[c]) + share[1][c] * word(SHAPES[c])
            for s in range(1, 4):
                row = row + 3 * (share[0][c] * share[1][s]) ** 0.5 * word(f"{COLOURS[c]}_{SHAPES[s]}")
        return row

    def encode_text(self, texts):
        found = []
        for text in texts:
            words = re.findall(r"\w+", text)
            row = sum((word(one) for one in words), torch.zeros(WIDTH))
            found.append(F.normalize(row + sum((word(f"{a}_{b}") for a, b in itertools.pairwise(words)), torch.zeros(WIDTH)), dim=0))
        return torch.stack(found)


def scene(left, right, size=8):
    """A thing (colour, shape) on each half."""
    picture = torch.zeros(3, size, size, dtype=torch.uint8)
    for (colour, shape), columns in ((left, slice(1, size // 2 - 1)), (right, slice(size // 2 + 1, size - 1))):
        picture[0, 2:-2, columns], picture[1, 2:-2, columns] = COLOURS.index(colour), SHAPES.index(shape)
    return picture


@pytest.mark.parametrize(
    ("caption", "parts", "relation"),
    [
        ("a red apple to the left of a bus", ("red apple", "bus"), "to left of"),
        ("a blue file folder and a green bucket", ("blue file folder", "green bucket"), ""),
        ("Two dogs chase the cat, on grass", ("Two dogs chase", "cat", "grass"), ""),
        ("apple", ("apple",), ""),
        ("the cat is bigger than a dog with a hat", ("cat", "dog", "hat"), "is bigger than"),
        ("of the", ("of the",), ""),
        ("", ("",), ""),
    ],
)
def test_captions_are_cut_at_function_words(caption, parts, relation):
    assert phrases(caption) == (parts, relation)


def test_windows_are_all_rectangles_but_the_whole():
    two = windows(2, 4, 6)
    assert two.shape == (8, 4, 6)
    assert sorted(two.sum((1, 2)).tolist()) == [6, 6, 6, 6, 12, 12, 12, 12]
    assert len({tuple(mask.flatten().tolist()) for mask in two}) == 8
    assert len(windows(3, 6, 6)) == 35
    assert not windows(3, 7, 7).all((1, 2)).any()


def test_outside_is_painted_over_or_cut_away():
    model = diptych.load("mini")
    picture = torch.arange(3 * 64 * 64).reshape(1, 3, 64, 64).remainder(251).to(torch.uint8)
    mask = windows(2, 64, 64)[:1]
    for outside, fill in (("black", 0), ("pad", model.config.preprocess.fill[0])):
        shown = Painter(model, outside).seen(picture, mask)  # type: ignore[arg-type]
        assert torch.equal(shown[:, :, mask[0]], picture[:, :, mask[0]])
        assert set(shown[:, :, ~mask[0]].flatten().tolist()) == {fill}
    shown = Painter(model, "crop").seen(picture, mask)
    part = F.interpolate(picture[:, :, :32, :32].float(), (64, 64), mode="bilinear", align_corners=False).round()
    assert torch.equal(shown.float(), part)


@pytest.mark.parametrize("how", ["share", "softmax"])
@pytest.mark.parametrize("grid", [2, 3])
def test_the_rule_equals_its_loop(how, grid):
    model = Scenes()
    pictures = torch.stack([scene(("red", "square"), ("green", "circle")), scene(("blue", "star"), ("red", "circle"))])
    captions = ("a red square and a green circle", "a green square to the left of a red circle", "blue star")
    rule = comclip(shots_of(("a", "b")), grid=grid, worth=how)
    ours = rule.answer(model, captions).logits(pictures)  # type: ignore[arg-type]
    masks = windows(grid, 8, 8)
    for b, picture in enumerate(pictures):
        whole = model.image_features(picture[None])[0].tolist()
        seen = [model.image_features((picture * mask)[None])[0].tolist() for mask in masks]
        for k, caption in enumerate(captions):
            parts, relation = phrases(caption)

            def joint(taken, picture=picture, relation=relation):
                union = torch.stack([masks[w] for w in taken]).any(0)
                return model.image_features((picture * union)[None])[0].tolist(), model.encode_text([relation])[0].tolist()

            rows = model.encode_text([caption])[0].tolist(), model.encode_text(parts).tolist()
            theirs = LOOP(whole, seen, *rows, joint if relation else None, 20.0, worth=how)
            assert float(ours[b, k]) == pytest.approx(theirs, abs=1e-4)


def test_swapped_colours_are_told_apart_where_the_plain_cosine_cannot():
    model = Scenes()
    things = [((a, s), (b, t)) for a in COLOURS[1:] for b in COLOURS[1:] for s in SHAPES[1:] for t in SHAPES[1:] if a != b and s != t]
    rule = comclip(shots_of(("a", "b")))
    plain, parts = [], []
    for (a, s), (b, t) in things:
        captions = (f"a {a} {s} and a {b} {t}", f"a {b} {s} and a {a} {t}")
        picture = scene((a, s), (b, t))[None]
        cosine = model.image_features(picture) @ model.encode_text(captions).T
        plain.append(bool(cosine[0, 0] > cosine[0, 1] + 1e-6))
        answer = rule.answer(model, captions).logits(picture)  # type: ignore[arg-type]
        parts.append(bool(answer[0, 0] > answer[0, 1] + 1e-6))
    assert sum(plain) < 0.7 * len(things)
    assert sum(parts) > 0.85 * len(things)


def test_parts_that_speak_against_their_words_count_nothing():
    alike = torch.tensor([[0.3, 0.1, -0.2], [-0.1, -0.5, -0.2]])
    assert torch.allclose(worth(alike, {"worth": "share"}), torch.tensor([[0.75, 0.25, 0.0], [1 / 3, 1 / 3, 1 / 3]]))
    assert torch.allclose(worth(alike, {"worth": "softmax", "scale": 2.0}).sum(1), torch.ones(2))


def test_a_model_with_the_rule_is_saved_and_answers_for_any_captions(tmp_path):
    model = diptych.load("mini")
    rule = comclip(shots_of(("a", "b")), outside="pad")
    diptych.save(model.with_rule(rule), tmp_path / "model")
    again = diptych.load(str(tmp_path / "model"))
    picture = torch.full((64, 64, 3), 200, dtype=torch.uint8).numpy()
    labels = ["a red apple and a green pear", "a dog to the left of a cat", "snow"]
    chances = [one.classifier(labels).predict([picture])[1] for one in (model.with_rule(rule), again)]
    assert torch.allclose(chances[0], chances[1], atol=1e-5)
    assert not torch.allclose(chances[0], model.classifier(labels, ("{}",)).predict([picture])[1], atol=1e-4)
