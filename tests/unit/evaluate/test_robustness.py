"""The protocols of robustness on a model that knows colours: corruptions, filters, viewpoint, resolution, style_shift,
effective_robustness, rs_resize_norm, clip_holistic_robustness."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from diptych.core.errors import UsageError
from diptych.core.types import Preprocess, Record, Sample
from diptych.evaluate import measure, shift
from diptych.evaluate.corrupt.common import COMMON
from diptych.evaluate.features import Features
from diptych.evaluate.material import hash_of, table
from diptych.evaluate.metrics import effective
from diptych.evaluate.outcome import Question
from diptych.evaluate.protocols import (
    clip_holistic_robustness,
    corruptions,
    effective_robustness,
    filters,
    resolution,
    rs_resize_norm,
    style_shift,
    viewpoint,
)
from diptych.evaluate.report.figures import parse
from diptych.evaluate.run import evaluate
from diptych.evaluate.view import View
from diptych.towers.encode import pixels

SIZE = 8
PIXELS = (corruptions, filters, viewpoint, resolution, rs_resize_norm, clip_holistic_robustness)


@pytest.fixture
def pixel_model(colour_model):
    """The colour model, reading pixels: the unit row of the mean colour."""

    class PixelModel(torch.nn.Module):
        def __init__(self, wrong=None, name="pixels"):
            super().__init__()
            self.words = colour_model(wrong)
            self.config = SimpleNamespace(name=name, preprocess=Preprocess((SIZE, SIZE), (0.5,) * 3, (0.5,) * 3, "squash"))
            self.scale, self.device, self.seen = torch.tensor(0.05), torch.device("cpu"), []

        def encode_image(self, images, batch_size=64, progress=False):
            image = images if isinstance(images, torch.Tensor) else torch.stack([pixels(one, self.config.preprocess) for one in images])
            self.seen.append(image)
            return self.image_features((image.float() / 255 - 0.5) / 0.5, normalise=False)

        def image_features(self, x, normalise=True, taps=frozenset()):
            return self.words._unit((x.mean((2, 3)) * 0.5 + 0.5) * 255)

        def encode_text(self, texts, batch_size=256, progress=False):
            return self.words.encode_text(texts)

        def fingerprint(self):
            return self.words.fingerprint() + "pixels"

    return PixelModel


def asked(model, data, folder=None, seed=0):
    features = Features(model, folder)
    index_N = torch.arange(len(data.source))
    view = View(features, data, index_N, seed)
    return Question(features.images(data.source, data.fingerprint), table(data.source), features.texts, data.classes, ("{}",), view)


def values(outcome):
    return {metric.name: metric for metric in outcome.metrics}


@pytest.mark.parametrize("module", PIXELS)
def test_a_model_without_pixels_or_data_without_classes_is_not_asked(module, colour_model, pixel_model, colour_set):
    both = replace(colour_set, companions={"train": colour_set})
    assert module.applies(asked(pixel_model(), both))
    assert not module.applies(asked(colour_model(), both))
    assert not module.applies(asked(pixel_model(), replace(both, classes=())))
    assert not module.applies(replace(asked(pixel_model(), both), more=None))


def test_a_sweep_is_what_a_plain_loop_gives(pixel_model, colour_set):
    """The negative of a picture is named as the negative's colour."""
    question = asked(pixel_model({"red": "green"}), colour_set)
    settings = [
        shift.Setting("same", 1, "same", lambda image: image),
        shift.Setting("negative", 1, "negative", lambda image: 255 - image),
        shift.Setting("negative", 2, "half negative", lambda image: torch.where(image > 200, 255 - image, image)),
    ]
    outcome = shift.sweep(question, "test", "test", settings)
    words = dict(zip(colour_set.classes, question.encode_text(colour_set.classes), strict=True))
    hits = []
    for sample in colour_set.source:
        row = []
        for change in (lambda x: x, *(one.change for one in settings)):
            image = change(pixels(sample, question.view.model.config.preprocess)[None])
            rgb = image.double().mean((2, 3))[0]
            unit = rgb - 127.5 + torch.tensor([1.0, 2.0, 3.0])
            scores = {name: float(unit @ word.double()) for name, word in words.items()}
            best = max(scores.values())
            row.append(float(scores[sample.concept] == best and sum(one >= best - 1e-6 for one in scores.values()) == 1))
        hits.append(row)
    hit = np.array(hits)
    found = values(outcome)
    assert found["test_top1"].value_N.numpy() == pytest.approx(hit[:, 1:].mean(1))
    assert found["test_drop"].value_N.numpy() == pytest.approx(hit[:, 0] - hit[:, 1:].mean(1))
    assert found["test_top1[negative]"].value_N.numpy() == pytest.approx(hit[:, 2:].mean(1))
    assert found["test_kept"].of(found["test_kept"].value_N) == pytest.approx((hit[:, :1] * hit[:, 1:]).sum() / 3 / hit[:, 0].sum())
    assert 0 < hit[:, 1:].mean() < 1
    assert found["test_top1"].chance == pytest.approx(1 / 7)


def test_all_models_see_the_same_pixels_and_the_second_time_none(pixel_model, colour_set, tmp_path):
    first, second, again = pixel_model(), pixel_model({"red": "green"}), pixel_model()
    for model in (first, second, again):
        evaluate(model, colour_set, protocols=["corruptions"], cache=tmp_path, draws=5)
    assert len(first.seen) == 76
    assert all(torch.equal(a, b) for a, b in zip(first.seen, second.seen, strict=True))
    assert again.seen == []


def test_the_part_that_is_asked_is_drawn_by_the_seed(pixel_model, colour_set):
    drawn = [shift.draw(asked(pixel_model(), colour_set, seed=seed), 9).index_M.tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == sorted(set(drawn[0]))
    unlabelled = replace(colour_set, source=[replace(s, label=None) if i % 2 else s for i, s in enumerate(colour_set.source)])
    assert all(i % 2 == 0 for i in shift.draw(asked(pixel_model(), unlabelled)).index_M.tolist())


@pytest.mark.parametrize("module", PIXELS)
def test_figures_have_their_form_and_every_metric_is_explained(module, pixel_model, colour_set):
    outcome = module.run(asked(pixel_model(), replace(colour_set, companions={"train": training(colour_set)})))
    for metric in outcome.metrics:
        assert metric.name.partition("[")[0] in module.ABOUT
    figures = module.section(outcome, None)["figures"]  # type: ignore[arg-type]
    assert figures
    for figure in figures:
        parse(figure)


def test_colours_survive_what_leaves_them_and_not_what_does_not(pixel_model, colour_set):
    question = asked(pixel_model(), colour_set)
    turned = values(viewpoint.run(question))
    assert float(turned["viewpoint_drop"].value_N.abs().max()) == 0  # plain pictures look alike from everywhere
    found = values(clip_holistic_robustness.run(question))
    coloured = torch.tensor([sample.concept in ("red", "green", "blue") for sample in colour_set.source])
    assert float(found["factor_top1[colour]"].value_N[coloured].sum()) == 0
    assert float(found["factor_top1[pose]"].value_N.mean()) == 1
    assert "shape_bias" not in found  # nothing here has an outline


def test_mean_corruption_error_by_hand():
    def records(errors, name="set"):
        return [
            Record("corruptions", name, f"corruption_top1[{c}]", 1 - e, (0, 1), 1, None, 0, "m", "")
            for c, e in zip(COMMON, errors, strict=True)
        ]

    mine, theirs = [0.1] * 10 + [0.6] * 5, [0.2] * 10 + [0.5] * 5
    assert corruptions.mean_corruption_error(records(mine), records(theirs)) == pytest.approx((10 * 0.5 + 5 * 1.2) / 15)
    with pytest.raises(UsageError, match="do not match"):
        corruptions.mean_corruption_error(records(mine), records(theirs, "other"))
    with pytest.raises(UsageError, match="no error"):
        corruptions.mean_corruption_error(records(mine), records([0.0] * 15))


def png(rgba, size=SIZE):
    buffer = io.BytesIO()
    Image.fromarray(rgba if isinstance(rgba, np.ndarray) else np.full((size, size, len(rgba)), rgba, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def training(data):
    """Other shades of the same colours."""
    colours = {"red": 0, "green": 1, "blue": 2}
    samples = []
    for name, channel in colours.items():
        for shade in range(6):
            rgb = [10 + shade] * 3
            rgb[channel] = 250 - shade
            samples.append(Sample(f"train-{name}-{shade}", png(rgb), (name,), data.classes.index(name), name, {"style": "plain"}))
    return replace(data, name="training", source=samples, fingerprint=hash_of(["training"]), sealed=False, companions={})


def styled(data, held=lambda sample: sample.concept != "pink"):
    source = [replace(sample, meta={"style": f"new{i % 2}"}) for i, sample in enumerate(data.source) if held(sample)]
    return replace(data, source=source, fingerprint=hash_of(s.id for s in source), companions={"validation": training(data)})


def test_style_shift_by_hand(pixel_model, colour_set):
    """Only red, green and blue are in the validation split; a model that takes red for green errs on a third of both sides."""
    question = asked(pixel_model({"red": "green"}), styled(colour_set))
    assert style_shift.applies(question)
    outcome = style_shift.run(question)
    found = values(outcome)
    assert len(found["unseen_style_top1"].value_N) == 9
    assert len(found["trained_style_top1"].value_N) == 18
    assert float(found["trained_style_top1"].value_N.mean()) == pytest.approx(1 / 3)  # green is tied with red, and a tie counts against it
    gap = float(found["trained_style_top1"].value_N.mean() - found["unseen_style_top1"].value_N.mean())
    assert found["style_gap"].of(found["style_gap"].value_N) == pytest.approx(gap)
    assert {"style_top1[new0]", "style_top1[new1]", "style_top1[plain]"} <= set(found)
    for figure in style_shift.section(outcome, None)["figures"]:  # type: ignore[arg-type]
        parse(figure)
    assert not style_shift.applies(asked(pixel_model(), colour_set))
    only_pink = styled(colour_set, lambda sample: sample.concept == "pink")
    with pytest.raises(UsageError, match="no class in common"):
        style_shift.run(asked(pixel_model(), only_pink))


def test_the_gap_counts_each_side_by_itself():
    value = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    assert style_shift.gap(value) == pytest.approx(0.75 - 0.5)
    assert math.isnan(style_shift.gap(value[:2]))


def test_line_equals_scipy_and_knows_its_own_points():
    rng = np.random.default_rng(0)
    a = rng.uniform(0.05, 0.9, 12)
    x = np.log(a / (1 - a))
    y = 0.8 * x - 0.5 + 0.1 * rng.normal(size=12)
    points = list(zip(a.tolist(), (1 / (1 + np.exp(-y))).tolist(), strict=True))
    line, truth = effective.fit([*points, (0.0, 0.5), (1.0, 0.5)]), stats.linregress(x, y)
    assert (line.slope, line.intercept, line.r2) == pytest.approx((truth.slope, truth.intercept, truth.rvalue**2))
    assert (line.n, line.low, line.high) == (12, min(a), max(a))
    exact = effective.fit([(p, 1 / (1 + math.exp(-(0.5 * math.log(p / (1 - p)) - 1)))) for p in (0.2, 0.5, 0.7)])
    assert exact.expected(0.5) == pytest.approx(1 / (1 + math.e))
    assert effective.effective(exact, 0.5, 0.4) == pytest.approx(0.4 - 1 / (1 + math.e))
    assert math.isnan(effective.effective(exact, 1.0, 0.4))
    for few in ([(0.1, 0.2), (0.2, 0.3)], [(0.1, 0.2)] * 5):
        with pytest.raises(UsageError, match="at least three"):
            effective.fit(few)


def test_effective_robustness_reads_the_shipped_line(pixel_model, colour_set):
    question = asked(pixel_model({"red": "green"}), styled(colour_set))
    assert not effective_robustness.applies(question)
    named = replace(styled(colour_set), name=effective_robustness.SET)
    question = asked(pixel_model({"red": "green"}), named)
    assert effective_robustness.applies(question)
    outcome = effective_robustness.run(question)
    above, foretold = outcome.metrics
    trained, shifted = outcome.show["at"]
    line = effective_robustness.line()
    expected = 1 / (1 + math.exp(-(line.intercept + line.slope * math.log(trained / (1 - trained)))))
    assert foretold.of(foretold.value_N) == pytest.approx(expected)
    assert above.of(above.value_N) == pytest.approx(shifted - expected)
    parse(effective_robustness.section(outcome, None)["figures"][0])  # type: ignore[arg-type]
    assert len(effective_robustness.references()) == line.n > 20


def test_other_preparation_costs_what_it_should(pixel_model, colour_set):
    """The model reads mean colours: a frame of white hides them, a mean of 0 moves them, a resize of a plain picture does nothing."""
    data = replace(colour_set, companions={"train": training(colour_set)})
    outcome = rs_resize_norm.run(asked(pixel_model(), data))
    found = values(outcome)
    assert float(found["preprocess_zero_shot_loss[bilinear]"].value_N.abs().sum()) == 0
    assert float(found["preprocess_zero_shot_loss[resize crop]"].value_N.abs().sum()) == 0
    assert float(found["preprocess_zero_shot_loss[no normalisation]"].value_N.mean()) > 0.3
    assert float(found["small_enlarged_gain"].value_N.mean()) >= 0
    losses = {name: float(m.value_N.mean()) for name, m in found.items() if name.startswith("preprocess_knn_loss")}
    worst = found["preprocess_worst_loss"]
    assert worst.of(worst.value_N) == pytest.approx(max(losses.values()))
    assert not rs_resize_norm.applies(asked(pixel_model(), colour_set))


def test_departures_leave_out_what_is_none():
    own = Preprocess((8, 8), *rs_resize_norm.IMAGENET, "crop", "bilinear")
    names = [one.name for one in rs_resize_norm.departures(own)]
    assert names[0] == "as trained"
    assert "ImageNet's mean and deviation" not in names
    assert "resize crop" not in names
    assert "bilinear" not in names
    assert {"resize squash", "resize pad", "bicubic", "no normalisation", "levels 0–255"} <= set(names)


def outlined(colour, inside, size=32):
    """A square of one colour, its place and size by ``inside``, on nothing."""
    image = np.zeros((size, size, 4), dtype=np.uint8)
    image[inside, inside] = (*colour, 255)
    return png(image)


def test_a_model_of_colours_has_no_shape_bias(pixel_model, colour_set):
    """Outlines on white keep their texture's colour; the texture's name always wins. The answer of a model of outlines is the reverse."""
    colours = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
    samples = [
        Sample(f"{name}-{i}", outlined(rgb, slice(2 + i % 3, 30)), (name,), colour_set.classes.index(name), f"{name}-{i}")
        for name, rgb in colours.items()
        for i in range(12)
    ]
    data = replace(colour_set, source=samples, fingerprint=hash_of(s.id for s in samples))
    question = asked(pixel_model(), data)
    found = values(clip_holistic_robustness.run(question))
    assert float(found["shape_bias"].value_N.mean()) == 0
    assert len(found["shape_bias"].value_N) >= 16
    ground = found["factor_top1[ground]"]
    assert len(ground.value_N) == 36


def test_records_come_out_of_the_whole(pixel_model, colour_set):
    data = replace(styled(colour_set), companions={"train": training(colour_set), "validation": training(colour_set)})
    names = ["filters", "resolution", "style_shift", "rs-resize-norm", "clip-holistic-robustness"]
    records = evaluate(pixel_model(), data, protocols=names, baseline=pixel_model({"red": "green"}, "base"), cache=False, draws=20)
    assert {record.protocol for record in records} == set(names)
    assert any(record.metric == "filter_top1.gain" for record in records)
    assert measure.chosen(asked(pixel_model(), data), ("filters",), "colours")
