"""Further views, texts and numbers of a batch, and rewritten captions."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from diptych.core.errors import UsageError
from diptych.core.types import Preprocess, Words
from diptych.data.augment import Augment, apply
from diptych.data.loader import Loader
from diptych.data.material import Material, move_boxes
from diptych.data.open import open as open_data
from diptych.data.tokenizers import Tokenizer

SQUASH = Preprocess((16, 16), (0.5,) * 3, (0.5,) * 3, resize="squash")
TOKENIZE = Tokenizer.byte_level(24)


@pytest.fixture(scope="module")
def data():
    return open_data("pictograms/validation")


def loader(data, material, **settings) -> Loader:
    return Loader(data, tokenize=TOKENIZE, preprocess=SQUASH, batch_size=8, seed=3, crop_text=False, material=material, **settings)


def shout(words: Words, draw: random.Random) -> str:
    return f"{words.caption.upper()} {draw.randrange(1000)}"


def two(words: Words, draw: random.Random) -> tuple[str, str]:
    return str(words.label), f"{draw.random():.3f}"


def number(words: Words, draw: random.Random) -> list[float]:
    return [float(words.label or 0), draw.random()]


def box(words: Words, draw: random.Random) -> list[list[float]]:
    return [[0.25, 0.5, 0.75, 1.0]]


ALL = Material(shout, {"text.two": two, "number": number}, (Augment(flip=0.5), Augment(shift=0.2, background=1.0)))


def test_what_is_asked_for_is_there(data):
    batch, _ = loader(data, ALL).batch(0)
    plain, _ = loader(data, Material()).batch(0)
    assert set(batch.extra) == {"text.two", "number", "view.0", "view.1"}
    for mine, theirs in zip(batch.captions, plain.captions, strict=True):
        assert mine.rsplit(" ", 1)[0] == theirs.upper()
    label = {identity: data[i].label for i, identity in enumerate(data.ids)}
    assert batch.extra["number"][:, 0].tolist() == [float(label[identity]) for identity in batch.ids]
    assert [TOKENIZE.decode(row.tolist()) for row in batch.extra["text.two"][:, 0]] == [str(label[i]) for i in batch.ids]
    assert batch.extra["view.0"].dtype == torch.uint8
    assert batch.extra["view.0"].shape == (8, 3, 16, 16)
    torch.testing.assert_close(batch.concept_B, plain.concept_B)


def test_two_ranks_hold_the_halves_of_one(data):
    one, _ = loader(data, ALL).batch(5)
    halves = [loader(data, ALL, rank=rank, world=2).batch(5)[0] for rank in range(2)]
    assert tuple(c for half in halves for c in half.captions) == one.captions
    for name, value in one.extra.items():
        assert torch.equal(torch.cat([half.extra[name] for half in halves]), value), name


def test_the_same_at_any_number_of_workers_and_another_each_step(data):
    with loader(data, ALL, workers=2) as threaded:
        found = [next(threaded) for _ in range(3)]
    for step, batch in enumerate(found):
        again, _ = loader(data, ALL).batch(step)
        assert again.captions == batch.captions
        assert all(torch.equal(again.extra[name], value) for name, value in batch.extra.items())
    assert not torch.equal(found[0].extra["number"][:, 1], found[1].extra["number"][:, 1])


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_boxes_go_where_their_pixels_go(flip):
    """A white square on black, moved: the box of the moved pixels is the moved box."""
    image = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    image[:, :, 24:40, 16:48] = 255
    half = -0.5 if flip else 0.5
    box_B4 = torch.tensor([[0.1, -0.2, half, 0.6]])
    moved = apply(image, {"box_B4": box_B4})[0, 0] > 127
    rows, columns = moved.any(1).nonzero(), moved.any(0).nonzero()
    seen = torch.tensor([int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]) / 64
    told = move_boxes(torch.tensor([[[16, 24, 48, 40]]]) / 64, box_B4)[0, 0]
    torch.testing.assert_close(told, seen, atol=1.0 / 64, rtol=0)


def test_boxes_need_a_resize_that_shows_the_whole_picture(data):
    with pytest.raises(UsageError, match="squash"):
        Loader(
            data,
            tokenize=TOKENIZE,
            preprocess=replace(SQUASH, resize="crop"),
            batch_size=8,
            seed=0,
            material=Material(makers={"boxes": box}),
        )


def test_rows_with_unequal_numbers_of_texts_are_told(data):
    def uneven(words: Words, draw: random.Random) -> tuple[str, ...]:
        return ("a",) * draw.randrange(1, 3)

    with pytest.raises(UsageError, match="1 to 2 texts"):
        loader(data, Material(makers={"text.uneven": uneven})).batch(0)
