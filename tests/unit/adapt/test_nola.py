"""NoLA: its choices and losses against loops, one step of its tuning by hand, and a head that sees what the words' rows do not."""

from __future__ import annotations

import json
import math
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from prompt_world import small
from torch.nn import functional as F
from towers_world import tiny, tiny_work

import diptych
from diptych.adapt.attach import copy_of
from diptych.adapt.parts.work import Work
from diptych.adapt.prompts.nola import aligned, first_tokens, nola, others, sure, told_rows
from diptych.core import registry
from diptych.core.errors import DiptychError, UsageError
from diptych.core.rng import generator
from diptych.engine.fewshot import make
from diptych.towers.prompts import Inserted, Prompts

REFERENCE = runpy.run_path(str(Path(__file__).resolve().parents[2] / "reference" / "nola.py"))


def pool(kind: str = "causal", count: int = 4) -> Work:
    """Paintings without labels; none has any."""
    given = tiny_work(small(kind), count)
    shots = replace(given.shots, free_UD=given.shots.image_SD, draw=generator(0, "prompt draw"))
    none = torch.zeros(0, dtype=torch.int64)
    return Work(given.model, shots, given.pictures, given.pictures).take(none)


def test_the_sure_pictures_are_the_papers() -> None:
    for seed, (pictures, classes) in enumerate([(30, 4), (400, 3), (12, 2), (5, 9)]):
        chance_UK = (4 * torch.randn(pictures, classes, generator=generator(seed, "sure"))).double().softmax(1)
        chance_UK[:, 0] *= 1e-3  # a class that is never first has those that have it second, or third
        wanted = REFERENCE["sure"](chance_UK.tolist())
        index_S, label_S = sure(chance_UK)
        assert dict(zip(index_S.tolist(), label_S.tolist(), strict=True)) == wanted
        assert len(set(index_S.tolist())) == len(index_S)
    assert min(REFERENCE["sure"](torch.full((40, 2), 0.5).tolist()).values()) == 0


def test_classes_are_told_by_templates_and_descriptions(tmp_path) -> None:
    work = pool()
    path = tmp_path / "words.json"
    path.write_text(json.dumps({"red": ["warm", "loud"], "green": [], "blue": ["cold"], "grey": []}))
    rows = told_rows(work.shots, str(path))
    texts = {
        "red": ["a photo of a red.", "red, warm", "red, loud"],
        "green": ["a photo of a green."],
        "blue": ["a photo of a blue.", "blue, cold"],
    }
    for k, name in enumerate(("red", "green", "blue")):
        mean = work.model.encode_text(texts[name]).double().mean(0)
        torch.testing.assert_close(rows[k].double(), mean / mean.norm(), atol=1e-6, rtol=0)
    path.write_text(json.dumps({"red": ["warm"]}))
    with pytest.raises(UsageError, match="says nothing of 3 of 4 classes"):
        nola(work, descriptions=str(path))


def test_the_head_is_two_layers_on_the_other_rows() -> None:
    draw = generator(3, "rows")
    row_UA, label_U = torch.randn(40, 6, generator=draw), torch.arange(40) % 2
    row_UA[label_U == 1] += 1.5
    index_S = torch.arange(20)
    logits_UK = aligned(row_UA, index_S, label_U[:20], 2, generator(0, "head"), 60)
    assert (logits_UK.argmax(1) == label_U).double().mean() > 0.9
    draw = generator(0, "head")
    sizes = (((256, 6), 6), ((256,), 6), ((2, 256), 256), ((2,), 256))
    first, bias, second, shift = ((torch.rand(shape, generator=draw) * 2 - 1) / math.sqrt(inputs) for shape, inputs in sizes)
    order = torch.randperm(20, generator=draw)
    lists = [one.double().tolist() for one in (first, bias, second, shift)]
    slow = [REFERENCE["head"](row_UA[u].double().tolist(), *lists) for u in order.tolist()]
    fast = F.linear(F.relu(F.linear(row_UA[order], first, bias)), second, shift)
    torch.testing.assert_close(fast, torch.tensor(slow), atol=1e-5, rtol=1e-5)
    one = aligned(row_UA, index_S, label_U[:20], 2, generator(0, "head"), 1)
    assert not torch.allclose(one[order], fast, atol=1e-4)
    torch.testing.assert_close(one[order], fast, atol=0.2, rtol=0)


def test_one_step_of_the_tuning_is_the_papers() -> None:
    """One batch of all pictures: its loss, and where AdamW's first step takes prompts and classifier."""
    work = pool("both ways")
    shots, lr = work.shots, 0.003
    made = nola(work, context=3, align=False, norms=False, epochs=1, batch=16, lr=lr)
    draw, model = generator(0, "prompt draw"), copy_of(work.model).double()
    told_KD = told_rows(shots, None)
    first = first_tokens(model, 3, draw)
    bound = math.sqrt(6 / (3 * 8**2 + 32))
    assert 0.9 * bound < float(first.abs().max()) <= bound
    order = torch.randperm(16, generator=draw)
    pixels = model.normalise(work.free(order, draw)).double()
    token_MV, class_KD = (one.double().requires_grad_() for one in (first, told_KD))
    row_BD = model.image_features(pixels, normalise=False, prompts=Inserted((token_MV,)))
    label_U = (shots.pool_UD @ told_KD.T).argmax(1)[order]
    logits_BK = shots.scale * row_BD @ class_KD.T
    loss = REFERENCE["smoothed"](logits_BK.tolist(), label_U.tolist())
    assert made.losses == pytest.approx([loss], rel=1e-5)
    gradients = torch.autograd.grad(F.cross_entropy(logits_BK, label_U, label_smoothing=0.1), (token_MV, class_KD))
    stepped = []
    for numbers, gradient in zip((token_MV, class_KD), gradients, strict=True):
        pairs = zip(numbers.flatten().tolist(), gradient.flatten().tolist(), strict=True)
        stepped.append(torch.tensor([REFERENCE["first_step"](x, g, lr) for x, g in pairs]).reshape(numbers.shape))
    torch.testing.assert_close(made.model.prompts.image[0], stepped[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(made.model.head.weight, shots.scale * stepped[1], atol=2e-4, rtol=1e-4)
    assert made.numbers == 3 * 32 + 4 * 32


def test_training_lowers_the_loss_and_leaves_the_parent(tmp_path) -> None:
    work = pool()
    before = work.model.fingerprint()
    made = nola(work, context=4, epochs=12, align_epochs=5, batch=8, lr=0.005)
    assert made.losses[-1] < made.losses[0]
    assert work.model.fingerprint() == before
    assert not any(value.requires_grad for value in made.model.parameters())
    assert made.numbers == 4 * 32 + 4 * 32 + sum(m.weight.numel() + m.bias.numel() for m in layer_norms(work.model))
    moved = [not torch.equal(a.weight, b.weight) for a, b in zip(layer_norms(work.model), layer_norms(made.model), strict=True)]
    assert all(moved)
    still = nola(pool(), context=4, epochs=1, align_epochs=1, norms=False)
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(layer_norms(work.model), layer_norms(still.model), strict=True))
    diptych.save(made.model, tmp_path / "made")
    again = diptych.load(str(tmp_path / "made"))
    pictures = work.free(torch.arange(16))
    assert again.classifier().predict(pictures)[0] == made.model.classifier().predict(pictures)[0]
    assert again.classifier(["night", "day"]).predict(pictures)[1].shape == (16, 2)


def layer_norms(model):
    return [module for module in model.image.modules() if isinstance(module, torch.nn.LayerNorm)]


def test_another_models_rows_may_be_seen(tmp_path) -> None:
    """It reads the prepared pictures at its own size."""
    work, other = pool(), tiny("clip", seed=4)
    diptych.save(other, tmp_path / "other")
    rows = others(work, str(tmp_path / "other"))
    pictures = work.free(torch.arange(16))
    wanted = other.encode_image([one.permute(1, 2, 0).numpy() for one in pictures])
    assert pictures.shape[-1] == 32
    assert other.config.preprocess.size == (16, 16)
    torch.testing.assert_close(rows, wanted)
    assert others(work, None) is work.shots.free_UD
    made = nola(work, aux=str(tmp_path / "other"), context=2, epochs=1, align_epochs=1)
    assert "rows of " in made.model.head.config.made_by
    with pytest.raises(DiptychError, match="no shipped model and no path"):
        nola(work, aux="nowhere", epochs=1)


def test_a_head_on_better_rows_mends_what_the_words_get_wrong() -> None:
    """Words put a third of the pictures of one class with the other; rows that tell them apart, and the surest ones, put them back."""
    draw = generator(0, "mend")
    label_U = torch.arange(120) % 2
    chance_U = torch.where(label_U == 1, 0.6, 0.2) + 0.25 * torch.randn(120, generator=draw)
    chance_UK = torch.stack([1 - chance_U, chance_U], dim=1).clamp(0, 1)
    other_UA = F.one_hot(label_U, 2).float() + 0.2 * torch.randn(120, 2, generator=draw)
    words = (chance_UK.argmax(1) == label_U).double().mean()
    found = aligned(other_UA, *sure(chance_UK), 2, generator(0, "head"), 100).argmax(1)
    assert (found == label_U).double().mean() > words + 0.1


def test_what_cannot_be_tuned_is_told() -> None:
    with pytest.raises(UsageError, match="needs pictures without labels"):
        make(registry.find("nola", "adapt"), tiny_work(small("causal")), {})
    given = pool()
    prompted = given.model.with_prompts(Prompts.of(image=[torch.zeros(2, 32)]))
    with pytest.raises(UsageError, match="reads prompts already"):
        nola(replace(given, model=prompted))
    conv = tiny("conv")
    with pytest.raises(UsageError, match="prompts in image tower"):
        nola(replace(given, model=conv))
