"""AMU-Tuning: its answer against a loop, what another encoder adds, and pictures of another size."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from rows_world import right, world
from torch.nn import functional as F

from diptych.adapt.adapters import amu_tuning as amu
from diptych.adapt.parts.work import Pictures, Work
from diptych.core.rng import generator
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset

REFERENCE = runpy.run_path(str(Path(__file__).resolve().parents[2] / "reference" / "amu_tuning.py"))


class Seen:
    """A tower that knows pictures by their number, which their first two pixels hold."""

    def __init__(self, row_ND):
        self.row_ND = row_ND

    def image_features(self, image_BCHW):
        return self.row_ND[numbers(image_BCHW)]

    def modules(self):
        return []

    def eval(self):
        return self


def numbers(image_BCHW):
    return image_BCHW[:, 0, 0, 0].long() * 256 + image_BCHW[:, 0, 0, 1].long()


def pictures(index_B):
    image = torch.zeros(len(index_B), 3, 2, 2, dtype=torch.uint8)
    image[:, 0, 0, 0], image[:, 0, 0, 1] = (index_B // 256).to(torch.uint8), (index_B % 256).to(torch.uint8)
    return image


def works(monkeypatch, counts=(4,) * 6, seed=0, text=0.5, spread=0.35):
    """A model whose rows are those of one world, an auxiliary one with rows of its own for the same pictures, and what is asked."""
    shots, asked, label, _ = world(counts, width=16, text=text, spread=spread, scale=20.0, free=0, seed=seed)
    draw, count = generator(seed, "other encoder"), len(shots.label_S)
    every = torch.cat([shots.label_S, label])
    centre = F.normalize(torch.randn(len(counts), 12, generator=draw), dim=1)
    other = F.normalize(centre[every] + 0.3 * torch.randn(len(every), 12, generator=draw), dim=1)
    monkeypatch.setattr(amu, "loaded", lambda name: None)
    monkeypatch.setattr(amu, "aux_rows", lambda tower, image: other[numbers(image)])
    model = Seen(torch.cat([shots.image_SD, asked]))
    work = Work(model, shots, Pictures(pictures, torch.arange(count)), Pictures(pictures, torch.arange(0)))  # type: ignore[arg-type]
    return work, model, pictures(torch.arange(count, len(every))), label, other[:count], asked, other[count:]


def told(rule, model, image):
    return rule.answer(model, rule.classes).logits(image)


@pytest.mark.parametrize("doubt", ["kurtosis", "entropy", "none"])
def test_the_answer_equals_the_loop_at_the_start_and_after_training(monkeypatch, doubt):
    work, model, image, _, aux, asked, other = works(monkeypatch, counts=(4, 1, 3, 2))
    settings = {"alpha": 0.7, "doubt": doubt, "power": 0.4}
    start = amu.amu_tuning(work, epochs=0, **settings)
    twin = REFERENCE["start"](aux.tolist(), work.shots.label_S.tolist(), 4)
    assert torch.allclose(start.get_buffer("weight").double(), torch.tensor(twin).double(), atol=1e-6)
    rule = amu.amu_tuning(work, epochs=5, **settings)
    zero = (20.0 * asked.double() @ work.shots.text_KD.double().T).tolist()
    for made in (start, rule):
        twin = REFERENCE["logits"](zero[:9], other[:9].double().tolist(), made.get_buffer("weight").double().tolist(), **settings)
        assert torch.allclose(told(made, model, image[:9]).double(), torch.tensor(twin).double(), atol=1e-4)
    assert not torch.equal(start.get_buffer("weight"), rule.get_buffer("weight"))


@pytest.mark.parametrize("doubt", ["kurtosis", "none"])
def test_the_first_step_goes_down_the_loop_s_loss(monkeypatch, doubt):
    """AdamW's first step is of length ``lr`` wherever the gradient is large; the gradient is taken by differences."""
    work, _, _, _, aux, _, _ = works(monkeypatch, counts=(3, 1, 2))
    shots, settings = work.shots, {"alpha": 2.0, "doubt": doubt, "power": 0.4}
    zero = (20.0 * shots.image_SD.double() @ shots.text_KD.double().T).tolist()
    plain = aux.double().tolist()

    def loss(weight):
        joint = REFERENCE["logits"](zero, plain, weight, **settings)
        bias = [REFERENCE["standard"]([REFERENCE["dot"](x, w) for w in weight]) for x in plain]
        each = [F.cross_entropy(torch.tensor(one).double(), shots.label_S).item() for one in (joint, bias)]
        return 0.35 * each[0] + 0.65 * each[1]

    start = torch.tensor(REFERENCE["start"](plain, shots.label_S.tolist(), 3), dtype=torch.float64)
    slope = torch.zeros_like(start)
    for k in range(start.shape[0]):
        for a in range(start.shape[1]):
            away = torch.zeros_like(start)
            away[k, a] = 1e-5
            slope[k, a] = (loss((start + away).tolist()) - loss((start - away).tolist())) / 2e-5
    wanted = start * (1 - 1e-2 * 0.01) - 1e-2 * slope / (slope.abs() + 1e-4)
    found = amu.amu_tuning(work, epochs=1, lr=1e-2, merge=0.35, **settings).get_buffer("weight").double()
    clear = slope.abs() > 5e-3
    assert float(clear.double().mean()) > 0.5
    assert torch.allclose(found[clear], wanted[clear], atol=3e-4)


def test_a_sure_answer_is_doubted_less():
    zero = torch.tensor([[9.0, 0, 0, 0, 0, 0], [1.0, 0.9, 0.8, 0, 0, 0]])
    for kind in ("kurtosis", "entropy"):
        sure, unsure = amu.doubts(zero, kind, 0.4).flatten().tolist()
        assert sure < 0.9 * unsure
    assert bool(amu.doubts(torch.zeros(1, 4), "kurtosis", 0.4).isfinite().all())


def test_another_encoder_adds_what_the_words_miss(monkeypatch):
    work, model, image, label, _, asked, _ = works(monkeypatch)
    rule = amu.amu_tuning(work, epochs=20, lr=1e-2)
    assert right(told(rule, model, image), label) > right(work.shots.zero_shot()(asked), label) + 0.1


def test_the_bias_learns_from_its_own_loss_as_well(monkeypatch):
    work, *_ = works(monkeypatch)
    made = [amu.amu_tuning(work, epochs=3, lr=1e-2, merge=merge).get_buffer("weight") for merge in (1.0, 0.0)]
    assert float((made[0] - made[1]).abs().max()) > 1e-3


def test_pictures_are_scaled_to_the_other_model():
    model = DualEncoder(preset("tiny")).eval()
    size = model.config.preprocess.size
    plain = torch.randint(0, 256, (3, 3, *size), generator=generator(0, "pictures"), dtype=torch.uint8)
    assert torch.allclose(amu.aux_rows(model, plain), model.image_features(plain).detach(), atol=1e-6)
    flat = torch.full((2, 3, 2 * size[0], 2 * size[1]), 90, dtype=torch.uint8)
    assert torch.allclose(amu.aux_rows(model, flat), amu.aux_rows(model, flat[:, :, : size[0], : size[1]]), atol=1e-5)
