"""GOPro: its context and losses against loops, a first step and its training, a rule that reads pixels and answers for any names."""

from __future__ import annotations

import math
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from prompt_world import TEXTS, again, small
from torch.nn import functional as F
from towers_world import tiny, tiny_work

import diptych
from diptych.adapt.parts.two_views import contrastive, two_views
from diptych.adapt.prompts.gopro import answer, contexts, gopro, projected, seen, three
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.towers.prompts import Inserted, text_start

REFERENCE = runpy.run_path(str(Path(__file__).resolve().parents[2] / "reference" / "gopro.py"))


@pytest.fixture(params=TEXTS)
def work(request):
    return tiny_work(small(request.param))


def blocks_of(model, pixels):
    """Tokens after each block, a picture after the other: ``[b][l][t][v]``."""
    states = []
    for picture in pixels:
        x, levels = model.image.embed(model.normalise(picture[None])).x_BTD, []
        for block in model.image.blocks:
            x = block(x)
            levels.append(x[0].double().tolist())
        states.append(levels)
    return states


def some_numbers(model, seed=0):
    """A rule's numbers, none of them what training begins with."""
    draw = generator(seed, "gopro numbers")
    shapes = {"context": (3, 16), "mix": (2,), "shift": (16,), "style": (2, 16, 32), "style_bias": (2, 16)}
    shapes |= {"content": (2, 16, 32), "content_bias": (2, 16), "image": (32, 32), "text": (32, 32)}
    return {name: 0.3 * torch.randn(shape, generator=draw) for name, shape in shapes.items()}


@torch.no_grad()
def words_of(model, names, context_MW):
    """Rows of the names behind one picture's context, each name alone."""
    here = Inserted((context_MW,), text_start(model))
    return torch.cat([model.text_features(model.tokenizer([f"{name}."]), prompts=here) for name in names])


def test_content_and_style_write_the_context(work) -> None:
    model, numbers = work.model, some_numbers(work.model)
    pixels = work.pictures(torch.tensor([0, 5, 9]))
    row_BD, content_BLV, style_BLV = seen(model, pixels)
    torch.testing.assert_close(row_BD, model.encode_image(pixels), atol=1e-5, rtol=0)
    made = contexts(content_BLV, style_BLV, numbers)
    lists = {name: value.double().tolist() for name, value in numbers.items()}
    slow = [REFERENCE["context"](levels, lists) for levels in blocks_of(model, pixels)]
    torch.testing.assert_close(made.double(), torch.tensor(slow, dtype=torch.float64), atol=1e-4, rtol=1e-4)


def test_the_rule_answers_as_the_loop_does_for_any_names(work) -> None:
    model, numbers = work.model, some_numbers(work.model)
    pixels, lists = work.pictures(torch.tensor([1, 6, 12])), {name: value.double().tolist() for name, value in numbers.items()}
    for names in (("owl", "a long name"), tuple("abcdefg")):
        logits = answer(model, names, numbers, scale=7.0).logits(pixels)
        for b, levels in enumerate(blocks_of(model, pixels)):
            context_MW = torch.tensor(REFERENCE["context"](levels, lists), dtype=torch.float32)
            picture = REFERENCE["projected"](model.encode_image(pixels[b : b + 1])[0].double().tolist(), lists["image"])
            for k, row in enumerate(words_of(model, names, context_MW)):
                wanted = 7.0 * REFERENCE["dot"](picture, REFERENCE["projected"](row.double().tolist(), lists["text"]))
                assert float(logits[b, k]) == pytest.approx(wanted, abs=1e-3)


def test_the_first_step_has_the_papers_losses() -> None:
    """One batch of all pictures, at the numbers that training begins with."""
    work = tiny_work(small("causal"))
    shots, model = work.shots, work.model
    given = {"context": 3, "words": "", "consistency": 2.0, "contrast": 0.5, "batch": 16}
    made = gopro(again(work), epochs=1, **given)
    draw = generator(0, "prompt draw")
    context_MW = 0.02 * torch.randn(3, 16, generator=draw)
    for shape in ((2, 16, 32), (2, 16)) * 2:
        torch.rand(shape, generator=draw)
    order = torch.randperm(16, generator=draw)
    pixels = work.pictures(order, draw)
    first, _ = two_views(pixels, draw)
    rows = [model.encode_image(one).double().tolist() for one in (pixels, first)]
    text = [words_of(model, shots.classes, context_MW).double().tolist()] * 16  # nothing moves the context yet
    same = torch.eye(32).tolist()
    label = shots.label_S[order].tolist()
    wanted = REFERENCE["loss"](rows[0], text, rows[1], text, text, (same, same), shots.scale, label, 2.0, 0.5)
    assert made.losses == pytest.approx([wanted], rel=1e-4)
    rule = made.model.rule
    assert made.numbers == rule.numbers() == 3 * 16 + 2 + 16 + 2 * (2 * 16 * 32 + 2 * 16) + 2 * 32 * 32
    assert 0 < float(rule.get_buffer("mix").abs().max()) < 1e-3
    assert float((rule.get_buffer("image") - torch.eye(32)).abs().max()) < 1e-3
    bound = 1 / math.sqrt(32)
    assert 0.95 * bound < float(rule.get_buffer("style").abs().max()) <= bound


def test_the_losses_on_views_are_the_papers() -> None:
    draw = generator(0, "views")
    one, other = (F.normalize(torch.randn(5, 8, generator=draw), dim=1) for _ in range(2))
    assert float(contrastive(one, other)) == pytest.approx(
        REFERENCE["contrastive"](one.double().tolist(), other.double().tolist()), rel=1e-5
    )
    assert float(contrastive(one, one)) < float(contrastive(one, one.flip(0)))
    row_ND, text_NKD = torch.randn(6, 8, generator=draw), torch.randn(6, 3, 8, generator=draw)
    row_ND, text_NKD, label_B = F.normalize(row_ND, dim=-1), F.normalize(text_NKD, dim=-1), torch.tensor([2, 0])
    numbers = {name: torch.randn(8, 8, generator=draw) for name in ("image", "text")}
    named, agree, alike = three(row_ND, text_NKD, label_B, numbers, 9.0)
    rows, texts = ([part.double().tolist() for part in one.chunk(3)] for one in (row_ND, text_NKD))
    matrices = [numbers[name].double().tolist() for name in ("image", "text")]
    wanted = REFERENCE["loss"](rows[0], texts[0], rows[1], texts[1], texts[2], matrices, 9.0, [2, 0], 0.7, 0.3)
    assert float(named + 0.7 * agree + 0.3 * alike) == pytest.approx(wanted, rel=1e-5)
    matrix = torch.randn(8, 8, generator=draw)
    slow = [REFERENCE["projected"](row, matrix.tolist()) for row in one.tolist()]
    torch.testing.assert_close(projected(one, matrix), torch.tensor(slow), atol=1e-5, rtol=1e-5)


def test_views_are_pictures_changed_by_the_draw() -> None:
    pixels = tiny_work(small("causal")).pictures(torch.arange(8))
    first, second = two_views(pixels, generator(0, "a"))
    again_ = two_views(pixels, generator(0, "a"))
    assert first.dtype == second.dtype == torch.uint8
    assert first.shape == second.shape == pixels.shape
    assert torch.equal(first, again_[0])
    assert torch.equal(second, again_[1])
    assert not torch.equal(first, second)
    assert not torch.equal(first, two_views(pixels, generator(1, "a"))[0])
    white = torch.full((4, 3, 16, 16), 255, dtype=torch.uint8)
    black = two_views(torch.zeros_like(white), generator(0, "b"))[1]
    assert int(black.max()) < 80  # a mixture of dark pictures stays dark: the shares sum to one
    assert float(two_views(white, generator(0, "b"))[1].float().mean()) > 150


def test_training_lowers_the_loss_and_leaves_the_parent(work, tmp_path) -> None:
    before = work.model.fingerprint()
    made, still = (gopro(again(work), epochs=6, lr=lr, batch=8) for lr in (0.02, 1e-9))  # of the same batches and views
    assert sum(made.losses[-3:]) < sum(still.losses[-3:])
    assert work.model.fingerprint() == before
    assert work.model.rule is None
    pixels = work.pictures(torch.arange(16))
    told = made.model.classifier(work.shots.classes).predict(pixels)[1]
    diptych.save(made.model, tmp_path / "made")
    loaded = diptych.load(str(tmp_path / "made"))
    torch.testing.assert_close(loaded.classifier(work.shots.classes).predict(pixels)[1], told, atol=1e-5, rtol=0)
    assert made.model.classifier(["night", "day", "dusk"]).predict(pixels)[1].shape == (16, 3)
    with pytest.raises(UsageError, match="looks at pictures, and rows were given"):
        made.model.classifier(work.shots.classes).probabilities(work.shots.image_SD)


def test_consistency_holds_the_words_of_views_together() -> None:
    """A weight on agreement ends with contexts of views that are nearer to those of the pictures."""
    work = tiny_work(small("causal"))
    pixels = work.pictures(torch.arange(16))
    first, _ = two_views(pixels, generator(5, "held"))
    far = []
    for consistency in (0.0, 300.0):
        made = gopro(again(work), epochs=12, lr=0.05, batch=8, consistency=consistency)
        numbers = dict(made.model.rule.named_buffers())
        mine, theirs = (contexts(*seen(work.model, one)[1:], numbers) for one in (pixels, first))
        far.append(float((mine - theirs).square().mean()))
    assert far[1] < far[0]


def test_a_tower_without_blocks_is_named() -> None:
    conv = tiny("conv")
    with pytest.raises(UsageError, match="token method 'gopro' with image tower 'efficientnet"):
        gopro(replace(tiny_work(small("causal")), model=conv))
    with pytest.raises(UsageError, match="20 tokens in all"):
        gopro(tiny_work(small("causal")), context=18)
