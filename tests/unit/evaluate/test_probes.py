"""Probes, calibration and unknowns as protocols: what they are fitted on, what they refuse, and their numbers in a world of rows."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.core.types import Sample
from diptych.data.seal import SealedError
from diptych.data.sets.find import find
from diptych.evaluate import calibrate as calibrations
from diptych.evaluate import fitting, suite
from diptych.evaluate.calibrate import Calibration, calibrate
from diptych.evaluate.features import Features
from diptych.evaluate.material import Material, hash_of, material, table
from diptych.evaluate.outcome import Question
from diptych.evaluate.protocols import calibration, clipn, few_shot, knn, linear_probe, unknowns
from diptych.evaluate.report.figures import parse
from diptych.evaluate.run import evaluate
from diptych.evaluate.view import View

NAMES = tuple(f"thing {k}" for k in range(6))
OTHERS = ("mist", "smoke", "fog")
WIDTH = 12
ALL = (linear_probe, knn, few_shot, calibration, unknowns, clipn)


def unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=1)


CENTRE = dict(zip((*NAMES, *OTHERS), unit(torch.randn(9, WIDTH, generator=generator(0, "centres"))), strict=True))
SHARED = torch.randn(WIDTH, generator=generator(0, "shared")) * 0.2


class RowModel:
    """A picture's bytes are its row; a name's row is its centre."""

    def __init__(self, scale: float | None = 20.0, name: str = "rows") -> None:
        self.config, self.templates = SimpleNamespace(name=name, preprocess=""), ("{}",)
        if scale is not None:
            self.scale = torch.nn.Parameter(torch.tensor(scale))

    def encode_image(self, images, batch_size=64, progress=False):
        return torch.stack([torch.from_numpy(np.frombuffer(s.image, dtype=np.float32).copy()) for s in images])

    def encode_text(self, texts, batch_size=256, progress=False):
        return torch.stack([CENTRE.get(text, SHARED) for text in texts])

    def fingerprint(self):
        return hash_of([self.config.name])


def pictures(name: str, each: int, names: tuple[str, ...] = NAMES, noise: float = 0.5, **more) -> Material:
    draw, samples = generator(0, "pictures", name), []
    for k, word in enumerate(names):
        for i in range(each):
            row = unit((CENTRE[word] + SHARED + noise * torch.randn(WIDTH, generator=draw))[None])[0]
            samples.append(Sample(f"{name}-{k}-{i}", row.numpy().tobytes(), (), k))
    return Material(name, "1", samples, hash_of([name, str(each)]), names, ("{}",), **more)


def world(**change) -> Material:
    roles = {
        "train": pictures("train", 20),
        "validation": pictures("validation", 8),
        "unknown": pictures("unknown", 15, OTHERS),
    }
    return pictures("test", 25, sealed=True, companions={**roles, **change})


def ask(data: Material, model=None) -> Question:
    model = model or RowModel()
    features = Features(model, None)
    index = torch.arange(len(data.source))
    return Question(
        features.images(data.source, ""), table(data.source), features.texts, data.classes, data.templates, View(features, data, index, 0)
    )


def without(data: Material, *roles: str) -> Material:
    return replace(data, companions={role: one for role, one in data.companions.items() if role not in roles})


def rows(data: Material) -> tuple[torch.Tensor, torch.Tensor]:
    return RowModel().encode_image(data.source), table(data.source).label_N


def test_the_probe_is_scikit_learns_on_train_and_validation_together():
    data = world()
    outcome = linear_probe.run(ask(data))
    (train, y), (held, z), (test, right) = rows(data.companions["train"]), rows(data.companions["validation"]), rows(data)
    told = {c: LogisticRegression(C=c, max_iter=5000).fit(train, y).score(held, z) for c, _ in outcome.show["told"]}
    assert dict(outcome.show["told"]) == pytest.approx(told, abs=0.022)
    assert dict(outcome.show["told"])[outcome.show["c"]] == max(hit for _, hit in outcome.show["told"])
    best = LogisticRegression(C=outcome.show["c"], max_iter=5000, tol=1e-8).fit(torch.cat([train, held]), torch.cat([y, z]))
    assert float(outcome.metrics[0].value_N.mean()) == pytest.approx(best.score(test, right), abs=0.002)
    assert outcome.show["fitted"] == 168
    assert 0.5 < float(outcome.metrics[0].value_N.mean()) < 1


@pytest.mark.parametrize("module", [linear_probe, knn, few_shot])
def test_nothing_is_chosen_by_the_test_pictures(module):
    """A test split whose labels are turned round would choose otherwise; what is chosen does not change."""
    data = world()
    turned = replace(data, source=[replace(s, label=((s.label or 0) + 1) % 6) for s in data.source])
    one, two = module.run(ask(data)), module.run(ask(turned))
    for key in {"c", "k", "temperature", "told"} & set(one.show):
        assert one.show[key] == two.show[key]
    assert float(one.metrics[0].value_N.mean()) > float(two.metrics[0].value_N.mean()) + 0.1


@pytest.mark.parametrize(
    ("module", "role"),
    [
        (linear_probe, "train"),
        (linear_probe, "validation"),
        (knn, "train"),
        (few_shot, "validation"),
        (calibration, "validation"),
        (clipn, "train"),
    ],
)
def test_test_pictures_among_what_is_fitted_on_are_refused(module, role):
    clean = world()
    assert module.applies(ask(clean))
    stolen = replace(clean.companions[role], source=[*clean.companions[role].source, replace(clean.source[3], id="renamed")])
    with pytest.raises(SealedError, match="renamed = test-0-3"):
        module.run(ask(world(**{role: stolen})))
    with pytest.raises(SealedError, match="is a sealed test set"):
        module.run(ask(world(**{role: replace(clean.companions[role], sealed=True)})))


def test_labels_go_by_name_and_pictures_of_other_classes_are_left_out():
    data = world()
    names = (*reversed(NAMES), "else")
    samples = [replace(s, label=None if i == 0 else 6 if i == 1 else 5 - s.label) for i, s in enumerate(data.companions["train"].source)]
    other = replace(data.companions["train"], source=samples, classes=names)
    mine, theirs = fitting.part(ask(data), "train"), fitting.part(ask(world(train=other)), "train")
    assert torch.equal(mine.label_N[2:], theirs.label_N)
    assert torch.equal(mine.image_ND[2:], theirs.image_ND)
    with pytest.raises(UsageError, match="no picture with a label of the set's own classes"):
        linear_probe.run(ask(world(train=pictures("far", 3, OTHERS))))


def test_without_validation_a_part_of_train_is_held_out_in_every_class():
    question = ask(without(world(), "validation"))
    train, held = fitting.splits(question)
    assert torch.bincount(held.label_N).tolist() == [4] * 6
    assert torch.bincount(train.label_N).tolist() == [16] * 6
    both = torch.cat([train.image_ND, held.image_ND])
    assert len(both.unique(dim=0)) == 120
    assert torch.equal(fitting.splits(question)[1].image_ND, held.image_ND)
    small = fitting.Part(torch.eye(3), torch.tensor([0, 0, 1]), torch.arange(3))
    train, held = fitting.hold_out(small, generator(0))
    assert (train.label_N.tolist(), held.label_N.tolist()) == ([0, 1], [0])
    with pytest.raises(UsageError, match="no class has two"):
        fitting.hold_out(small.take(torch.tensor([0, 2])), generator(0))


def test_shots_are_drawn_evenly_and_anew():
    part = fitting.Part(torch.arange(13.0)[:, None], torch.tensor([0] * 8 + [1] * 3 + [2] * 2), torch.arange(13))
    first, second = few_shot.draw(part, 3, generator(0, "a")), few_shot.draw(part, 3, generator(0, "b"))
    assert torch.bincount(first.label_N).tolist() == [3, 3, 2]
    assert sorted(first.image_ND[:, 0].tolist()) != sorted(second.image_ND[:, 0].tolist())
    assert all(int(part.label_N[int(x)]) == k for x, k in zip(first.image_ND[:, 0], first.label_N, strict=True))
    assert len(first.image_ND.unique()) == 8


def test_the_interval_covers_draws_and_concepts():
    """Against the same bootstrap written plainly; a spread of draws alone, or of concepts alone, shows in it."""
    draw, choose = generator(3), np.random.default_rng(0)
    hit = (torch.rand(60, 4, generator=draw) < torch.tensor([0.2, 0.4, 0.6, 0.8])).double()
    unit_N = torch.arange(60) // 3
    found = few_shot.crossed(hit, unit_N, generator(4), 4000)
    plain = []
    for _ in range(4000):
        units, draws = choose.integers(0, 20, 20), choose.integers(0, 4, 4)
        chosen = np.concatenate([hit.numpy()[u * 3 : u * 3 + 3] for u in units])
        plain.append(chosen[:, draws].mean())
    assert found.interval == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.015)
    assert (found.value, found.n) == (pytest.approx(float(hit.mean())), 20)
    assert torch.quantile(found.draws_S, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist() == pytest.approx(found.interval)
    same = few_shot.crossed(hit[:, :1].expand(60, 4), torch.zeros(60), generator(4), 200)
    assert same.interval == pytest.approx((float(hit[:, 0].mean()),) * 2)


def test_more_shots_name_more_and_only_those_there_are_are_measured():
    names = [metric.name for metric in few_shot.run(ask(world(train=pictures("train", 5)))).metrics]
    assert names == ["1_shot", "2_shot", "4_shot", "zero_shot_top1"]
    found = {metric.name: float(metric.value_N.mean()) for metric in few_shot.run(ask(world())).metrics}
    assert found["1_shot"] + 0.1 < found["16_shot"]
    assert set(found) == set(few_shot.ABOUT)


def test_calibration_before_and_after():
    data = world()
    outcome = calibration.run(ask(data, RowModel(100.0)))
    value = {metric.name: metric.of(metric.value_N) if metric.of else float(metric.value_N.mean()) for metric in outcome.metrics}
    assert value["ece_calibrated"] < value["ece"]
    assert value["nll_calibrated"] < value["nll"]
    assert outcome.show["temperature"] > 1.5
    test, right = rows(data)
    p = (100 * test.double() @ torch.stack([CENTRE[name] for name in NAMES]).double().T).softmax(1)
    assert value["nll"] == pytest.approx(float(-p[torch.arange(150), right].log().mean()), abs=1e-5)
    assert 0.8 < value["kept_right"] < 1
    assert 1 < value["kept_names"] < 6
    alone = calibration.run(ask(without(data, "train", "validation")))
    assert {metric.name for metric in alone.metrics} == {"ece", "rms_error", "nll", "brier", "aurc", "selective_80"}
    fewer = calibration.run(ask(world(validation=pictures("validation", 1))))
    assert "kept_right" not in {metric.name for metric in fewer.metrics}
    assert set(value) == set(calibration.ABOUT)


def test_a_class_that_the_unknown_set_names_is_no_known_one():
    data = world(unknown=pictures("unknown", 15, (*OTHERS, NAMES[1])))
    two = unknowns.mixed(ask(data))
    assert two.names == (NAMES[0], *NAMES[2:])
    assert torch.allclose(two.class_KD, torch.stack([CENTRE[name] for name in two.names]), atol=1e-6)
    assert torch.bincount(two.known.label_N).tolist() == [25] * 5
    assert table(data.source).label_N[two.index_N].unique().tolist() == [0, 2, 3, 4, 5]
    assert len(two.units().unique()) == 125 + 60
    assert two.unknown().sum() == 60
    with pytest.raises(UsageError, match="names every class"):
        unknowns.run(ask(world(unknown=pictures("unknown", 1, NAMES))))


@pytest.mark.parametrize("module", ALL)
def test_sections_have_their_form_and_numbers_come_out(module, tmp_path):
    data = world()
    records = evaluate(RowModel(), data, protocols=[module.CARD.id], cache=False, draws=20, out=tmp_path)
    assert {record.metric for record in records} == set(module.ABOUT)
    for record in records:
        assert record.interval[0] <= record.value <= record.interval[1] or record.metric.startswith(("ece", "rms"))
    outcome = module.run(ask(data))
    figures = module.section(outcome, None)["figures"]
    assert [parse(figure) for figure in figures]
    assert module.section(replace(outcome, show={**outcome.show, "found": {}}), None) == {} or module is not few_shot


def test_what_does_not_apply_says_so():
    bare = without(world(), "train", "validation", "unknown")
    asked = ask(bare)
    assert [module for module in ALL if module.applies(asked)] == [calibration]
    assert not any(module.applies(replace(asked, more=None)) for module in ALL)
    assert not any(module.applies(ask(world(), RowModel(None))) for module in (calibration, unknowns, clipn))
    assert linear_probe.applies(ask(world(), RowModel(None)))
    unlabelled = replace(bare, source=[replace(s, label=None) for s in bare.source], companions=world().companions)
    assert not any(module.applies(ask(unlabelled)) for module in ALL)


def test_the_embedded_sets_bring_what_the_protocols_need():
    for module in ALL:
        for name in module.SUITES["full"]:
            found = find(name)
            assert found.sealed
            for role in ("train", "validation"):
                split = find(found.companions[role])
                assert split.classes == found.classes
                assert not split.sealed
            assert "unknown" in found.companions or module not in (unknowns, clipn)
        assert module in suite.members("full")
    assert {sample.label for sample in find("study/kinds").samples()} == set(range(26))


def test_a_calibration_is_fitted_kept_and_used(tmp_path):
    data, model = world(), RowModel(100.0)
    found = calibrate(model, data.companions["validation"], tested=data, thresholds=True, cache=False)
    assert found.temperature == pytest.approx(calibration.run(ask(data, model)).show["temperature"], rel=1e-6)
    assert (found.n, found.keep, found.scale) == (48, 0.9, 100.0)
    found.save(tmp_path / "calibration.json")
    assert calibrations.load(tmp_path / "calibration.json") == found
    names, p = found.predict(model, data.source)
    assert torch.allclose(p.sum(1), torch.ones(150).double())
    assert None not in names
    assert sum(name == NAMES[s.label or 0] for name, s in zip(names, data.source, strict=True)) > 75
    strict = replace(found, thresholds=tuple([2.0] * 5 + [0.0]))
    assert set(strict.predict(model, data.source)[0]) == {NAMES[5]}
    assert set(replace(found, thresholds=(2.0,) * 6).predict(model, data.source)[0]) == {None}
    with pytest.raises(UsageError, match="fitted for another model"):
        found.predict(RowModel(name="other"), data.source)
    plain = calibrate(model, data.companions["validation"], cache=False)
    assert (plain.thresholds, plain.keep) == (None, None)
    assert torch.equal(plain.predict(model, data.source)[1], p)
    with pytest.raises(UsageError, match="without thresholds"):
        plain.kept(p)


def test_calibrating_on_test_pictures_is_refused():
    data, model = world(), RowModel()
    with pytest.raises(SealedError, match="sealed test set"):
        calibrate(model, data, cache=False)
    with pytest.raises(SealedError, match="150 of its pictures are test pictures"):
        calibrate(model, replace(data, sealed=False), tested=data, cache=False)
    with pytest.raises(SealedError, match="sealed test set"):
        calibrate(model, "pictograms/zero-shot", cache=False)


def test_what_cannot_be_calibrated_is_refused(tmp_path):
    data, model = world().companions["validation"], RowModel()
    with pytest.raises(UsageError, match="no classes or no labelled"):
        calibrate(model, replace(data, classes=()), cache=False)
    with pytest.raises(UsageError, match="has no scale"):
        calibrate(RowModel(None), data, cache=False)
    path = tmp_path / "calibration.json"
    good = calibrate(model, data, thresholds=True, cache=False)
    for wrong in ("[]", "{", '{"version": 2}', '{"version": 1}'):
        path.write_text(wrong)
        with pytest.raises(calibrations.DiptychError, match="it is no calibration"):
            calibrations.load(path)
    for change in ({"temperature": 0.0}, {"thresholds": (0.5,)}, {"scale": "x"}):
        replace(good, **change).save(path)
        with pytest.raises(calibrations.DiptychError, match="it is no calibration"):
            calibrations.load(path)
    with pytest.raises(calibrations.DiptychError, match="No such file"):
        calibrations.load(tmp_path / "none.json")
    with pytest.raises(calibrations.DiptychError, match="No such file"):
        good.save(tmp_path / "none" / "calibration.json")
    assert isinstance(good, Calibration)


def test_of_a_path_the_validation_split_is_taken(tmp_path):
    from PIL import Image

    for split in ("train", "validation", "test"):
        for k in range(2):
            folder = tmp_path / split / f"class{k}"
            folder.mkdir(parents=True)
            Image.new("RGB", (8, 8), (k * 255, len(split), 0)).save(folder / f"{split}{k}.png")
    assert {"validation" in sample.id for sample in calibrations._split(tmp_path).source} == {True}
    assert {"test" in sample.id for sample in material(tmp_path).source} == {True}
