"""CLOC and GRAIN: makers, contrast and matching worked by hand, what their heads see, and a few steps on scenes."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch
from few_scenes import few_scenes, squashing
from torch.nn import functional as F

from diptych.core.errors import UsageError
from diptych.core.types import Pairs, Words
from diptych.objectives.pairs import cloc as cloc_file
from diptych.objectives.pairs import grain as grain_file
from diptych.objectives.parts import regions
from diptych.towers.see import See

WORDS = Words("x", "a", ("a",), meta={"boxes": [[0.1, 0.2, 0.5, 0.6], [0.5, 0.5, 1.0, 1.0]], "regions": ["red car", "dog"]})


def test_makers_fill_up_to_four():
    draw = random.Random(0)
    assert regions.boxes(WORDS, draw) == [[0.1, 0.2, 0.5, 0.6], [0.5, 0.5, 1.0, 1.0], [0.0] * 4, [0.0] * 4]
    assert regions.texts(WORDS, draw) == ("red car", "dog", "", "")
    first, second, third, fourth = regions.numbers(WORDS, draw)
    assert third == fourth == 0
    assert len({first, second, third}) == 3
    other = replace(WORDS, meta={"boxes": [[0, 0, 1, 1]] * 6, "regions": ["dog"] * 6})
    assert regions.numbers(other, draw) == [second] * 4
    with pytest.raises(UsageError, match="no boxes and regions"):
        regions.boxes(replace(WORDS, meta={}), draw)


def test_contrast_by_hand():
    east, north = [1.0, 0.0], [0.0, 1.0]
    rows = torch.tensor([[east, north], [north, north]], dtype=torch.float64)
    cols = torch.tensor([[east, north], [north, north]], dtype=torch.float64)
    number = torch.tensor([[1.0, 2.0], [3.0, 9.0]])
    there = torch.tensor([[True, True], [True, False]])

    def of(numbers):
        return regions.contrast(rows, cols, *regions.equal_texts(numbers, numbers, there, there), there, torch.tensor(2.0))

    loss, _ = of(number)
    # columns: east, north, north. Row 0: (1, 0, 0) of 2·; rows 1 and 2: (0, 1, 1) with one of the two true
    first = math.log(1 + 2 * math.exp(-2))
    other = math.log(2 + math.exp(-2))
    assert loss.item() == pytest.approx(((first + other) / 2 + other) / 2)
    equal = torch.tensor([[1.0, 2.0], [2.0, 9.0]])
    assert of(equal)[1].item() == 1.0


def test_a_batch_without_any_region_costs_nothing():
    rows = torch.randn(2, 2, 3, requires_grad=True)
    none = torch.zeros(2, 2, dtype=torch.bool)
    pairs = regions.equal_texts(torch.zeros(2, 2), torch.zeros(2, 2), none, none)
    loss, _ = regions.contrast(rows, rows, *pairs, none, torch.tensor(100.0))
    loss.backward()
    assert loss.item() == 0.0
    assert rows.grad is not None
    assert not rows.grad.any()


def test_places_by_hand():
    assert regions.centres((2, 2), torch.device("cpu")).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    half = regions.fourier(torch.tensor([0.5]), 2)
    torch.testing.assert_close(half, torch.tensor([1.0, 0.0, 0.0, -1.0]), atol=1e-6, rtol=0)
    assert regions.there(torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.3, 0.3, 0.3, 0.9]]])).tolist() == [[True, False]]


def test_overlap_by_hand():
    box = torch.tensor([0.0, 0.0, 0.4, 0.4])
    assert grain_file.overlap(box, box).item() == pytest.approx(1.0)
    # half of each shared: inside .08, union .24, hull the union
    assert grain_file.overlap(box, torch.tensor([0.2, 0.0, 0.6, 0.4])).item() == pytest.approx(1 / 3)
    # apart: hull 1, union .32
    assert grain_file.overlap(box, torch.tensor([0.6, 0.6, 1.0, 1.0])).item() == pytest.approx(-0.68)


def test_match_is_the_least_sum_and_leaves_out_padding():
    cost = torch.tensor([[[1.0, 1.5], [0.9, 1.0], [9.0, 9.0]]])
    both, one = torch.tensor([[True, True]]), torch.tensor([[True, False]])
    assert grain_file.match(cost, both).tolist() == [[0, 1]]  # 2.0; the best query for region 0 first would cost 2.4
    assert grain_file.match(cost, one)[0, 0].item() == 1
    assert len(grain_file.assignments(5, 4)) == 120


def test_grain_draws_the_matched_query_to_its_text():
    image = F.normalize(torch.randn(2, 4, dtype=torch.float64), dim=1)
    box = torch.tensor([[[0.1, 0.1, 0.3, 0.3]], [[0.5, 0.5, 0.9, 0.9]]], dtype=torch.float64)
    found = torch.tensor([[[0.5, 0.5, 0.9, 0.9], [0.1, 0.1, 0.3, 0.3]]] * 2, dtype=torch.float64)
    query = F.normalize(torch.randn(2, 2, 4, dtype=torch.float64), dim=-1).requires_grad_()
    taps = {"box": box, "found": found, "query": query, "region_text": image[:, None], "region_number": torch.tensor([[1.0], [2.0]])}
    pairs = Pairs(image, image, image, image, 0, torch.tensor(5.0), None, torch.arange(2), torch.arange(2), taps, taps)
    loss = grain_file.grain(pairs)
    assert loss.terms["boxes"].item() == pytest.approx(0.0, abs=1e-12)
    loss.total.backward()
    assert query.grad is not None
    assert (query.grad.abs().sum(-1) > 0).tolist() == [[False, True], [True, False]]


def test_texts_that_are_too_like_are_no_negatives():
    image = torch.eye(2, dtype=torch.float64)
    text = torch.tensor([[[1.0, 0.0]], [[0.8, 0.6]]], dtype=torch.float64)
    box = torch.tensor([[[0.0, 0.0, 0.5, 0.5]]] * 2, dtype=torch.float64)
    taps = {"box": box, "found": box + 0.1, "region": text, "region_text": text}
    pairs = Pairs(image, image, image, image, 0, torch.tensor(5.0), None, torch.arange(2), torch.arange(2), taps, taps)
    apart, alike = cloc_file.cloc(pairs, similar=0.9).terms, cloc_file.cloc(pairs, similar=0.7).terms
    # cosines 1 with its own text and 0.8 with the other
    assert apart["regions"].item() == pytest.approx(math.log1p(math.exp(-1.0)))
    assert alike["regions"].item() == pytest.approx(0.0)
    assert apart["grounding"].item() == pytest.approx(0.01)


def test_prompts_do_not_see_one_another():
    prompter = cloc_file.Prompter(32, 16)
    tokens, boxes = torch.randn(2, 16, 32), torch.rand(2, 3, 4)
    whole = prompter.regions(tokens, (4, 4), boxes)
    turned = prompter.regions(tokens, (4, 4), boxes[:, [2, 0, 1]])
    torch.testing.assert_close(turned, whole[:, [2, 0, 1]])
    elsewhere = torch.cat([boxes[:, :2], torch.rand(2, 1, 4)], dim=1)
    torch.testing.assert_close(prompter.regions(tokens, (4, 4), elsewhere)[:, :2], whole[:, :2])
    moved = tokens.clone()
    moved[0] = moved[0].flip(0)
    assert not torch.allclose(prompter.regions(moved, (4, 4), boxes)[0], whole[0])
    torch.testing.assert_close(prompter.regions(moved, (4, 4), boxes)[1], whole[1])
    found = prompter.boxes(tokens, (4, 4), torch.randn(2, 3, 16))
    assert found.shape == (2, 3, 4)
    assert ((found > 0) & (found < 1)).all()


def test_boxes_are_found_from_texts_and_regions_are_not():
    model = squashing()
    method = cloc_file.Method(model, cloc_file.Options())

    def rows(text):
        extra = {"boxes": torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))}
        taps = {"image.tokens": torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(1))}
        pixels = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
        return method.rows(See(model, pixels, None, torch.Generator(), {**extra, "text.regions": text}, taps))

    first, other = rows(torch.full((2, 4, 6), 70)), rows(torch.full((2, 4, 6), 90))
    assert torch.equal(first["region"], other["region"])
    assert not torch.allclose(first["found"], other["found"])
    first["found"].sum().backward()
    assert any(p.grad is not None for p in model.text.parameters())
    assert method.prompter.words.weight.grad is not None


@pytest.mark.parametrize("name", ["cloc", "grain"])
def test_what_does_not_go_together_is_said(name):
    see = See(squashing(), torch.zeros(1, 3, 8, 8), None, torch.Generator(), tokens=object())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="token method"):
        regions.grid_of(see, torch.zeros(1, 16, 4), name)
    with pytest.raises(UsageError, match="no square grid"):
        regions.grid_of(replace(see, tokens=None), torch.zeros(1, 15, 4), name)


def test_cloc_trains_its_prompter_and_finds_regions():
    taught = few_scenes("cloc", steps=60)
    assert all(taught.moved().values()), taught.moved()
    assert taught.reports[-1]["regions"] < 0.8 * taught.reports[0]["regions"]
    assert taught.reports[-1]["grounding"] < 0.8 * taught.reports[0]["grounding"]


def test_grain_trains_its_decoder_and_finds_boxes():
    taught = few_scenes("grain", steps=60)
    assert all(taught.moved().values()), taught.moved()
    assert taught.reports[-1]["boxes"] < 0.8 * taught.reports[0]["boxes"]
    assert taught.reports[-1]["descriptions"] < 0.9 * taught.reports[0]["descriptions"]


def test_cloc_without_grounding_leaves_that_head_alone():
    moved = few_scenes("cloc", "objective.options.grounding_weight=0").moved()
    assert not moved["prompter.box.0.weight"]
    assert not moved["prompter.words.weight"]
    assert moved["prompter.region.weight"]
