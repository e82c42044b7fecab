"""PictoBench's protocols against loops, scikit-learn and scipy, and on models whose answers are known.

choice, regions, pointing, ordering, anomaly, counteranimal, perceptionclip, concept_association_bias.
"""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bench_world import question, white
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import jaccard_score, roc_auc_score

import diptych
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.core.types import Sample
from diptych.data.decode import decode
from diptych.data.pictograms.bench_scenes import encode_mask
from diptych.data.sets.find import find
from diptych.evaluate import patches, suite
from diptych.evaluate.features import Features
from diptych.evaluate.material import material, table
from diptych.evaluate.metrics import localisation
from diptych.evaluate.metrics.ordering import kendall, spearman
from diptych.evaluate.protocols import anomaly, choice, counteranimal, ordering, perceptionclip, pointing, regions
from diptych.evaluate.protocols import concept_association_bias as association
from diptych.evaluate.report import figures
from diptych.evaluate.run import evaluate
from diptych.evaluate.view import View


def normal(*shape: int, name: str = "x") -> torch.Tensor:
    return torch.randn(*shape, generator=generator(0, "bench", name), dtype=torch.float64)


def value(outcome, name: str) -> float:
    metric = next(metric for metric in outcome.metrics if metric.name == name)
    return metric.of(metric.value_N) if metric.of else float(metric.value_N.mean())


def chance(outcome, name: str) -> float:
    return next(metric.chance for metric in outcome.metrics if metric.name == name)


# choice


def two_by_two(pairs: int) -> tuple[list[Sample], dict[str, torch.Tensor]]:
    samples, rows = [], {}
    for p in range(pairs):
        texts = [f"{p} zero", f"{p} one"]
        rows |= {text: normal(6, name=text) for text in texts}
        samples += [Sample(f"{p}-{a}", white(), (), meta={"choices": texts, "answer": a, "pair": str(p)}) for a in (0, 1)]
    return samples, rows


def test_choice_equals_its_loop():
    samples, rows = two_by_two(40)
    image_ND = normal(80, 6)
    asked, _ = question(samples, image_ND, rows)
    outcome = choice.run(asked)
    s = [
        [float(image_ND[i].float().double() @ rows[t].float().double()) for t in sample.meta["choices"]] for i, sample in enumerate(samples)
    ]
    hits = [s[i][sample.meta["answer"]] > s[i][1 - sample.meta["answer"]] for i, sample in enumerate(samples)]
    text, image, group = [], [], []
    for p in range(40):
        a, b = s[2 * p], s[2 * p + 1]
        text.append(a[0] > a[1] and b[1] > b[0])
        image.append(a[0] > b[0] and b[1] > a[1])
        group.append(text[-1] and image[-1])
    wanted = {"accuracy": hits, "text_score": text, "image_score": image, "group_score": group}
    for name, told in wanted.items():
        assert value(outcome, name) == pytest.approx(np.mean(told)), name
    assert chance(outcome, "accuracy") == 1 / 2
    assert 0.2 < value(outcome, "accuracy") < 0.8


def test_the_chance_of_winogrounds_scores_is_that_of_random_scores():
    score_NK = normal(40_000, 2)
    pair_P2 = torch.arange(40_000).view(-1, 2)
    for metric in choice.winoground(score_NK, torch.arange(40_000) % 2, pair_P2):
        assert float(metric.value_N.mean()) == pytest.approx(metric.chance, abs=0.012), metric.name


def test_a_model_that_says_the_same_of_everything_is_never_right():
    samples, rows = two_by_two(3)
    asked, _ = question(samples, torch.zeros(6, 6), rows)
    outcome = choice.run(asked)
    assert all(value(outcome, name) == 0 for name in ("accuracy", "text_score", "image_score", "group_score"))


def test_numbers_are_off_by_what_they_are_off_by():
    texts = [str(n) for n in range(4)]
    rows = {text: torch.eye(4)[i] for i, text in enumerate(texts)}
    meta = [{"choices": texts, "answer": a, "ordered": True, "group": "low" if a < 2 else "high"} for a in range(4)]
    samples = [Sample(str(i), white(), (), meta=one) for i, one in enumerate(meta)]
    asked, _ = question(samples, torch.eye(4)[[0, 3, 2, 1]], rows)  # says 0, 3, 2, 1 of 0, 1, 2, 3
    outcome = choice.run(asked)
    assert value(outcome, "accuracy") == 0.5
    assert value(outcome, "count_error") == (0 + 2 + 0 + 2) / 4
    assert chance(outcome, "count_error") == np.mean([abs(k - a) for k in range(4) for a in range(4)])
    assert value(outcome, "accuracy[low]") == value(outcome, "accuracy[high]") == 0.5
    assert not any(metric.name == "text_score" for metric in outcome.metrics)


@pytest.mark.parametrize("meta", [{"choices": ["a"], "answer": 0}, {"choices": ["a", "b"], "answer": 2}, {"choices": "ab", "answer": 0}])
def test_choices_that_are_none_are_an_error(meta):
    asked, _ = question([Sample("x", white(), (), meta=meta)], torch.zeros(1, 2), {"a": torch.ones(2), "b": torch.ones(2)})
    with pytest.raises(UsageError, match="sample x"):
        choice.run(asked)


# metrics


def test_mean_iou_equals_scikit_learns():
    draw = np.random.default_rng(0)
    told, true = draw.integers(0, 5, (7, 30)), draw.integers(0, 4, (7, 30))  # class 4 is told and never true, class 5 neither
    count = localisation.confusions(torch.from_numpy(told), torch.from_numpy(true), 6)
    assert localisation.mean_iou(count) == pytest.approx(jaccard_score(true.ravel(), told.ravel(), average="macro"), abs=1e-12)
    some = true.copy()
    some[draw.random(true.shape) < 0.4] = -1
    count = localisation.confusions(torch.from_numpy(told), torch.from_numpy(some), 6)
    kept = some >= 0
    assert localisation.mean_iou(count) == pytest.approx(jaccard_score(some[kept], told[kept], average="macro"), abs=1e-12)
    assert math.isnan(localisation.mean_iou(torch.zeros(2, 3, 3)))


def test_guessing_tends_to_the_iou_that_is_told():
    draw = np.random.default_rng(1)
    true = draw.choice(4, 200_000, p=[0.6, 0.2, 0.15, 0.05])
    guess = jaccard_score(true, draw.integers(0, 4, len(true)), average="macro")
    assert localisation.guessed_iou(torch.from_numpy(true)[None], 4) == pytest.approx(guess, abs=2e-3)


def test_weighted_auroc_equals_scikit_learns():
    draw = np.random.default_rng(2)
    score = draw.integers(0, 6, 50).astype(float)  # ties
    positive, negative = draw.integers(0, 4, 50), draw.integers(0, 4, 50)
    found = torch.from_numpy(np.stack([score, positive, negative], 1)).double()
    scores, labels = np.concatenate([score, score]), np.repeat([1, 0], 50)
    wanted = roc_auc_score(labels, scores, sample_weight=np.concatenate([positive, negative]))
    assert localisation.weighted_auroc(found) == pytest.approx(wanted, abs=1e-12)
    assert localisation.weighted_auroc(found.view(5, 10, 3)) == pytest.approx(wanted, abs=1e-12)
    assert math.isnan(localisation.weighted_auroc(found * torch.tensor([1.0, 0.0, 1.0])))


def test_kendall_and_spearman_equal_scipys():
    draw = np.random.default_rng(3)
    x, y = draw.integers(0, 5, (30, 8)), draw.integers(0, 4, (30, 8))
    tau, rho = kendall(torch.from_numpy(x), torch.from_numpy(y)), spearman(torch.from_numpy(x), torch.from_numpy(y))
    for i in range(30):
        assert float(tau[i]) == pytest.approx(stats.kendalltau(x[i], y[i]).statistic, abs=1e-12)
        assert float(rho[i]) == pytest.approx(stats.spearmanr(x[i], y[i]).statistic, abs=1e-12)
    flat = torch.ones(1, 4)
    assert kendall(flat, torch.arange(4)[None]).tolist() == spearman(torch.arange(4)[None], flat).tolist() == [0.0]


# patches


def test_patches_cover_boxes_and_pixels_exactly():
    box = torch.tensor([[0.0, 0.0, 0.25, 0.5], [0.1, 0.2, 0.9, 0.7]])
    assert patches.cover(box[:1], 2).tolist() == [[0.5, 0.0, 0.0, 0.0]]
    fine = np.zeros((100, 100))
    fine[20:70, 10:90] = 1
    wanted = fine.reshape(4, 25, 4, 25).mean((1, 3)).ravel()
    assert patches.cover(box[1:], 4)[0].tolist() == pytest.approx(wanted.tolist(), abs=1e-6)


@pytest.mark.parametrize(("shape", "side"), [((6, 6), 3), ((6, 5), 3), ((7, 5), 3), ((8, 8), 5)])
def test_labels_are_counted_in_parts_where_patches_cut_pixels(shape, side):
    label = np.random.default_rng(4).integers(0, 3, shape)
    counted = patches.counts(label, side, 3)
    for p in range(side * side):
        row, column = divmod(p, side)
        for k in range(3):
            share = 0.0
            for y in range(shape[0]):
                for x in range(shape[1]):
                    down = max(0.0, min((y + 1) / shape[0], (row + 1) / side) - max(y / shape[0], row / side))
                    across = max(0.0, min((x + 1) / shape[1], (column + 1) / side) - max(x / shape[1], column / side))
                    share += (label[y, x] == k) * down * across * side * side
            assert counted[p, k] == pytest.approx(share, abs=1e-9)


# regions and pointing: two by two patches, things a and b in the left and right half


THINGS = ("a", "b", "c")
ROWS = {name: torch.eye(4)[i] for i, name in enumerate(THINGS)} | {text: torch.eye(4)[3] for text in pointing.GROUND}
HALVES = {"boxes": [[0, 0, 0.5, 1], [0.5, 0, 1, 1]], "regions": ["a", "b"]}


def halves(**more) -> Sample:
    left = np.zeros((8, 8), bool)
    left[:, :4] = True
    return Sample(str(len(more)), white(), (), meta=HALVES | {"masks": [encode_mask(left), encode_mask(~left)]} | more)


def test_regions_are_told_from_tokens_crops_and_the_whole():
    token = torch.eye(4)[[0, 2, 0, 1]][None]  # left a, a; right c, b
    crops = torch.eye(4)[[0, 1]]
    asked, world = question([halves()], torch.eye(4)[[1]], ROWS, THINGS, token_NPE=token, crops=crops)
    outcome = regions.run(asked)
    hits = {metric.name: metric.value_N.tolist() for metric in outcome.metrics}
    assert hits["crop_top1"] == [1, 1]
    assert hits["whole_top1"] == [0, 1]
    assert hits["box_top1"] == [1, 0]  # b and c tie on the right, and a tie counts against the model
    assert [metric.unit_N.tolist() for metric in outcome.metrics if metric.unit_N is not None] == [[0, 0]] * 4
    assert chance(outcome, "crop_top1") == 1 / 3
    assert chance(outcome, "box_other") == 1 / 3
    assert [sample.id for sample in world.cut] == ["0-0", "0-1"]


def test_the_box_of_the_whole_picture_gives_the_row_of_a_model_that_pools_by_the_mean():
    mini, data = diptych.load("mini"), material("pictobench/regions").take(torch.arange(3))
    view = View(Features(mini, None), data, torch.arange(3), 0)
    everything = [torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float64)] * 3
    assert torch.allclose(regions.pooled(view, view.samples(), everything), mini.encode_image(view.samples()), atol=1e-5)


def test_a_box_that_names_its_neighbour_is_seen():
    token = torch.eye(4)[[1, 1, 1, 1]][None]
    asked, _ = question([halves()], torch.eye(4)[[1]], ROWS, THINGS, token_NPE=token, crops=torch.eye(4)[[0, 1]])
    outcome = regions.run(asked)
    assert next(m.value_N.tolist() for m in outcome.metrics if m.name == "box_other") == [1, 0]


def test_without_tokens_boxes_are_cut_out_only():
    asked, _ = question([halves()], torch.eye(4)[[1]], ROWS, THINGS, crops=torch.eye(4)[[0, 1]])
    assert {metric.name for metric in regions.run(asked).metrics} == {"crop_top1", "whole_top1"}
    assert not pointing.applies(asked)
    assert regions.applies(asked)


def test_what_is_cut_out_is_what_lies_in_the_box():
    model = SimpleNamespace(config=SimpleNamespace(preprocess=SimpleNamespace(fill=(9, 99, 7))))
    sample = next(s for s in find("pictobench/regions").samples() if "key" in s.meta["regions"] and "automobile" in s.meta["regions"])
    boxes, whole = patches.boxes_of(sample), decode(sample.image)
    for made, (left, top, right, bottom) in zip(regions.cut([sample], [boxes], model), (boxes * 64).round().int().tolist(), strict=True):
        square, part = decode(made.image), whole[top:bottom, left:right]
        assert square.shape[0] == square.shape[1] == max(part.shape[:2])
        y, x = ((square.shape[i] - part.shape[i]) // 2 for i in (0, 1))
        assert np.array_equal(square[y : y + part.shape[0], x : x + part.shape[1]], part)
        assert (square == (9, 99, 7)).all(-1).sum() == square.shape[0] ** 2 - part.shape[0] * part.shape[1]


def test_pointing_and_iou_by_hand():
    token = torch.eye(4)[[0, 1, 3, 2]][None]  # a, b above; ground, c below
    token[0, 0] *= 2
    asked, _ = question([halves()], torch.eye(4)[[0]], ROWS, THINGS, token_NPE=token)
    outcome = pointing.run(asked)
    assert value(outcome, "pointing") == 1.0
    assert chance(outcome, "pointing") == 0.5
    # truth a, b, a, b; told a, b, ground, c: a 1/2, b 1/2, ground 0, c 0
    assert value(outcome, "miou") == pytest.approx((0.5 + 0.5 + 0 + 0) / 4)
    assert value(outcome, "miou") == pytest.approx(jaccard_score([1, 2, 1, 2], [1, 2, 0, 3], average="macro", zero_division=0))
    assert value(outcome, "patch_top1") >= 0.5
    wrong, _ = question([halves()], torch.eye(4)[[0]], ROWS, THINGS, token_NPE=torch.eye(4)[[1, 0, 1, 0]][None])
    assert value(pointing.run(wrong), "pointing") == 0.0
    assert value(pointing.run(wrong), "miou") == 0.0


def test_the_truth_of_patches_is_what_most_pixels_show():
    mask = np.zeros((8, 8), bool)
    mask[:3, :4] = True  # 12 of the 16 pixels of the first patch
    mask[4:6, 4:8] = True  # half of the last one: the ground wins
    sample = Sample("s", white(), (), meta={"boxes": [[0, 0, 1, 1]], "regions": ["c"], "masks": [encode_mask(mask)]})
    assert pointing.truth(sample, THINGS, 2).tolist() == [3, 0, 0, 0]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"boxes": [[0, 0, 0.5, 1]]}, "as many regions"),
        ({"boxes": [[0, 0, 2, 1], [0.5, 0, 1, 1]]}, "0…1"),
        ({"boxes": "none"}, "no boxes"),
        ({"regions": ["a", "z"]}, "'z' is no class"),
        ({"masks": []}, "0 masks for 2 regions"),
        ({"masks": [{"size": [2, 2], "counts": [3]}] * 2}, "cannot be read"),
    ],
)
def test_places_that_cannot_be_read_are_an_error(change, why):
    asked, _ = question([halves(**change)], torch.eye(4)[[0]], ROWS, THINGS, token_NPE=torch.eye(4)[None])
    with pytest.raises(UsageError, match=why):
        pointing.run(asked)


def test_tokens_that_are_no_square_are_an_error():
    asked, _ = question([halves()], torch.eye(4)[[0]], ROWS, THINGS, token_NPE=torch.eye(4)[[0, 1, 2]][None])
    with pytest.raises(UsageError, match="no square grid"):
        pointing.run(asked)


# ordering


def test_an_order_is_followed_reversed_or_left():
    rows = {"low": torch.tensor([1.0, 0.0]), "high": torch.tensor([0.0, 1.0])}
    levels = [3, 1, 2, 5, 4]
    samples = [
        Sample(f"{name}{i}", white(), (), meta={"list": name, "level": level, "low": "low", "high": "high", "group": name})
        for name in ("up", "down", "none")
        for i, level in enumerate(levels)
    ]
    height = torch.tensor([0.1 * level for level in levels])
    second = torch.cat([height, -height, torch.zeros(5)])
    asked, _ = question(samples, torch.stack([torch.zeros(15), second], 1), rows)
    outcome = ordering.run(asked)
    for name in ("kendall", "spearman"):
        assert [value(outcome, f"{name}[{part}]") for part in ("up", "down", "none")] == pytest.approx([1, -1, 0])
        assert value(outcome, name) == pytest.approx(0)
    assert [metric.name for metric in outcome.metrics[:2]] == ["kendall", "spearman"]


def test_lists_of_unlike_length_are_ordered_and_those_of_one_level_left_out():
    rows = {"low": torch.tensor([1.0, 0.0]), "high": torch.tensor([0.0, 1.0])}
    told = [("a", 1), ("a", 2), ("b", 1), ("c", 3), ("c", 1), ("c", 2)]
    samples = [Sample(str(i), white(), (), meta={"list": n, "level": x, "low": "low", "high": "high"}) for i, (n, x) in enumerate(told)]
    asked, _ = question(samples, torch.tensor([[0.0, float(x)] for _, x in told]), rows)
    assert next(m.value_N.tolist() for m in ordering.run(asked).metrics if m.name == "kendall") == pytest.approx([1.0, 1.0])
    with pytest.raises(UsageError, match="none of them"):
        ordering.lists(samples[2:3])
    with pytest.raises(UsageError, match="is no number"):
        ordering.lists([Sample("x", white(), (), meta={"list": "a", "level": "three"})])


# anomaly


def broken_world(tokens: bool = True):
    draw = np.random.default_rng(5)
    names = ["a cup", "a dog"]
    rows = {word.replace("{}", name): normal(4, name=word + name) for name in names for word in (*anomaly.WHOLE, *anomaly.DAMAGED)}
    samples, shares = [], []
    for i in range(12):
        mask = np.zeros((8, 8), bool)
        if i % 2:
            mask[2:6, 1 : 4 + i % 3] = True
        meta = {"damaged": bool(i % 2), "name": names[i // 2 % 2], "damage": encode_mask(mask), "pair": str(i // 2), "group": "hole"}
        samples.append(Sample(f"{i:02d}", white(), (), meta=meta))
        shares.append(mask)
    token = normal(12, 4, 4, name="tokens").float()
    train = [Sample(f"t{i}", white(), (), meta={"damaged": i > 1, "name": names[i % 2]}) for i in range(4)]
    known = SimpleNamespace(material=SimpleNamespace(name="t", source=train), tokens=normal(4, 4, 4, name="train").float())
    image_ND = torch.from_numpy(draw.normal(size=(12, 4)))
    asked, _ = question(samples, image_ND, rows, token_NPE=token if tokens else None, train=known if tokens else None)
    return asked, samples, np.stack(shares), image_ND, token, rows, known


def test_damage_equals_loops_and_scikit_learn():
    asked, samples, masks, image_ND, token, rows, known = broken_world()
    outcome = anomaly.run(asked)

    def mean_row(name, words):
        row = np.mean([rows[word.replace("{}", name)].float().numpy() for word in words], 0)
        return row / np.linalg.norm(row)

    turn = [mean_row(s.meta["name"], anomaly.DAMAGED) - mean_row(s.meta["name"], anomaly.WHOLE) for s in samples]
    bad = [s.meta["damaged"] for s in samples]
    image = [float(image_ND[i].numpy() @ turn[i]) for i in range(12)]
    assert value(outcome, "image_auroc") == pytest.approx(roc_auc_score(bad, image), abs=1e-9)

    def unit(row):
        return row / np.linalg.norm(row)

    where = np.array([[unit(token[i, p].numpy()) @ turn[i] for p in range(4)] for i in range(12)])
    pixels = where.reshape(12, 2, 2).repeat(4, 1).repeat(4, 2)
    assert value(outcome, "pixel_auroc") == pytest.approx(roc_auc_score(masks.ravel(), pixels.ravel()), abs=1e-6)
    bank = {"a cup": known.tokens[0], "a dog": known.tokens[1]}
    far = np.array(
        [
            [1 - max(float(unit(token[i, p].numpy()) @ unit(m.numpy())) for m in bank[samples[i].meta["name"]]) for p in range(4)]
            for i in range(12)
        ]
    )
    assert value(outcome, "memory_image_auroc") == pytest.approx(roc_auc_score(bad, far.max(1)), abs=1e-6)
    pixels = far.reshape(12, 2, 2).repeat(4, 1).repeat(4, 2)
    assert value(outcome, "memory_pixel_auroc") == pytest.approx(roc_auc_score(masks.ravel(), pixels.ravel()), abs=1e-6)


def test_without_tokens_or_memory_damage_is_told_of_whole_pictures():
    asked, *_ = broken_world(tokens=False)
    assert [metric.name for metric in anomaly.run(asked).metrics] == ["image_auroc"]


def test_a_damage_mask_that_contradicts_is_an_error():
    sample = Sample("x", white(), (), meta={"damaged": False, "damage": encode_mask(np.ones((4, 4), bool))})
    with pytest.raises(UsageError, match="says otherwise"):
        anomaly.damage(sample, 2)


def test_a_thing_that_is_not_remembered_is_an_error():
    asked, samples, _, _, token, _, known = broken_world()
    known.material.source = [s for s in known.material.source if s.meta["name"] == "a dog"]
    known.tokens = known.tokens[[1, 3]]
    with pytest.raises(UsageError, match="no whole picture of 'a cup'"):
        anomaly.remembered(asked, samples, token)


# backgrounds


def ground_world(train=None):
    """Two classes, each on both grounds, six drawings each; the first two widths say the class, the last two the ground."""
    samples, rows = [], []
    for i in range(24):
        label, ground, home = i % 2, ("green", "blue")[i // 2 % 2], ("green", "blue")[i % 2]
        meta = {"background": ground, "backgrounds": ["green", "blue"], "home": home, "drawing": f"{label}-{i // 4}"}
        samples.append(Sample(f"{i:02d}", white(), (), label, meta=meta | {"group": "common" if ground == home else "counter"}))
        rows.append(torch.cat([torch.eye(2)[label], torch.eye(2)[("green", "blue").index(ground)]]))
    words = {"x": torch.tensor([1.0, 0, 0, 0]), "y": torch.tensor([0, 1.0, 0, 0])}
    for y, row in list(words.items()):
        for z, ground_row in (("green", torch.tensor([0, 0, 1.0, 0])), ("blue", torch.tensor([0, 0, 0, 1.0]))):
            words[perceptionclip.CONTEXT.format(y=y, z=z)] = row + ground_row
            words[perceptionclip.PURE.format(z=z)] = ground_row
    return samples, torch.stack(rows), words


def test_a_model_that_sees_the_ground_only_drops_from_all_to_nothing():
    samples, rows, words = ground_world()
    asked, _ = question(samples, rows[:, [2, 3, 0, 1]], words, ("x", "y"))
    outcome = counteranimal.run(asked)
    assert {name: value(outcome, name) for name in ("background_drop", "worst_group", "common", "counter")} == {
        "background_drop": 1.0, "worst_group": 0.0, "common": 1.0, "counter": 0.0,
    }  # fmt: skip
    asked, _ = question(samples, rows, words, ("x", "y"))
    outcome = counteranimal.run(asked)
    assert (value(outcome, "background_drop"), value(outcome, "worst_group")) == (0.0, 1.0)
    assert len(outcome.metrics[0].unit_N.unique()) == 12


def test_drop_and_worst_group_equal_their_loops():
    samples, _, words = ground_world()
    rows = normal(24, 4)
    asked, _ = question(samples, rows, words, ("x", "y"))
    outcome = counteranimal.run(asked)
    hit = [bool(rows[i, s.label] > rows[i, 1 - s.label]) for i, s in enumerate(samples)]  # type: ignore[index, operator]
    common = [h for h, s in zip(hit, samples, strict=True) if s.meta["group"] == "common"]
    counter = [h for h, s in zip(hit, samples, strict=True) if s.meta["group"] == "counter"]
    groups: dict[tuple, list[bool]] = {}
    for h, s in zip(hit, samples, strict=True):
        groups.setdefault((s.meta["home"], s.meta["background"]), []).append(h)
    assert value(outcome, "background_drop") == pytest.approx(np.mean(common) - np.mean(counter))
    assert value(outcome, "worst_group") == pytest.approx(min(np.mean(told) for told in groups.values()))
    assert math.isnan(counteranimal.drop(torch.ones(3, 2)))
    assert math.isnan(counteranimal.worst(2)(torch.tensor([[1.0, 0.0]], dtype=torch.float64)))


def test_a_probe_that_learned_the_ground_is_scikit_learns_and_drops():
    samples, rows, words = ground_world()
    rows = rows * torch.tensor([0.3, 0.3, 1.0, 1.0]) + 0.1 * normal(24, 4)
    usual = [s for s in samples if s.meta["group"] == "common"]
    fitted = rows[[s.meta["group"] == "common" for s in samples]] + 0.1 * normal(12, 4, name="fit")
    train = SimpleNamespace(image_ND=fitted, table=table(usual), classes=("x", "y"))
    asked, _ = question(samples, rows, words, ("x", "y"), train=train)
    outcome = counteranimal.run(asked)
    peer = LogisticRegression(C=counteranimal.PENALTY, max_iter=5000, tol=1e-10).fit(fitted.numpy(), [s.label for s in usual])
    hit = peer.predict(rows.float().numpy()) == np.array([s.label for s in samples])
    common = np.array([s.meta["group"] == "common" for s in samples])
    assert value(outcome, "probe_background_drop") == pytest.approx(hit[common].mean() - hit[~common].mean())
    assert value(outcome, "probe_background_drop") > 0.5
    assert value(outcome, "probe_counter") == pytest.approx(hit[~common].mean())


def test_perceptionclip_equals_its_loop():
    samples, _, words = ground_world()
    rows = torch.nn.functional.normalize(normal(24, 4), dim=1)
    asked, world = question(samples, rows, words, ("x", "y"))
    outcome = perceptionclip.run(asked)
    scale, hits = float(world.model.scale), {"perception": [], "pure": [], "plain": [], "ground": []}

    def unit(text):
        row = words[text].double().numpy()
        return row / np.linalg.norm(row)

    for row, sample in zip(rows.float().double().numpy(), samples, strict=True):
        f = [[scale * row @ unit(f"{y} on a {z} background") for z in ("green", "blue")] for y in "xy"]
        pure = [scale * row @ unit(f"a {z} background") for z in ("green", "blue")]
        with_y = [math.exp(f[0][z]) + math.exp(f[1][z]) for z in (0, 1)]
        for name, context in (("perception", with_y), ("pure", [math.exp(one) for one in pure])):
            told = [context[z] / sum(context) for z in (0, 1)]
            p = [sum(told[z] * math.exp(f[y][z]) / (math.exp(f[0][z]) + math.exp(f[1][z])) for z in (0, 1)) for y in (0, 1)]
            hits[name].append(p[sample.label] > p[1 - sample.label])  # type: ignore[index, operator]
        hits["plain"].append(row[sample.label] > row[1 - sample.label])  # type: ignore[index, operator]
        hits["ground"].append(("green", "blue")[int(np.argmax(with_y))] == sample.meta["background"])

    def worst(hit):
        groups: dict[tuple, list[bool]] = {}
        for h, s in zip(hit, samples, strict=True):
            groups.setdefault((s.meta["home"], s.meta["background"]), []).append(h)
        return min(np.mean(told) for told in groups.values())

    for name in ("perception", "pure", "plain"):
        assert value(outcome, f"{name}_top1") == pytest.approx(np.mean(hits[name]))
        assert value(outcome, f"{name}_worst_group") == pytest.approx(worst(hits[name]))
    assert value(outcome, "perception_gain") == pytest.approx(worst(hits["perception"]) - worst(hits["plain"]))
    assert value(outcome, "background_top1") == pytest.approx(np.mean(hits["ground"]))


def test_a_class_that_borrows_the_ground_is_mended_by_conditioning():
    """Plain prompts lean on the ground; with the ground in the prompt the lean is the same for every class and cancels."""
    samples, rows, words = ground_world()
    words["x"], words["y"] = torch.tensor([1.0, 0, 2.0, 0]), torch.tensor([0, 1.0, 0, 2.0])
    asked, _ = question(samples, rows, words, ("x", "y"))
    outcome = perceptionclip.run(asked)
    assert value(outcome, "plain_worst_group") == 0.0
    assert value(outcome, "perception_worst_group") == value(outcome, "pure_worst_group") == 1.0
    assert value(outcome, "perception_gain") == 1.0


def test_conditioned_probabilities_equal_their_loop_and_sum_to_one():
    logit = 4 * normal(5, 3, 2)
    told = perceptionclip.conditioned(logit, perceptionclip.inferred(logit, 3.0))
    assert told.sum(1).tolist() == pytest.approx([1] * 5)
    for n, f in enumerate(logit.tolist()):
        context = [sum(math.exp(f[y][z] / 3.0) for y in range(3)) for z in range(2)]
        assert perceptionclip.inferred(logit, 3.0)[n].tolist() == pytest.approx([one / sum(context) for one in context])
        for y in range(3):
            parts = [context[z] / sum(context) * math.exp(f[y][z]) / sum(math.exp(f[k][z]) for k in range(3)) for z in range(2)]
            assert float(told[n, y]) == pytest.approx(sum(parts))
    far = perceptionclip.inferred(logit, 1e9)
    assert far.flatten().tolist() == pytest.approx([0.5] * 10, abs=1e-6)


def test_backgrounds_that_samples_disagree_about_are_an_error():
    samples, rows, words = ground_world()
    samples[3] = Sample("x", white(), (), 1, meta=dict(samples[3].meta) | {"background": "red"})
    asked, _ = question(samples, rows, words, ("x", "y"))
    with pytest.raises(UsageError, match="'red' is not among"):
        perceptionclip.run(asked)


# association


def test_a_bag_of_words_names_the_colour_that_is_bigger():
    colours = ("blue", "red", "yellow")
    rows = {f"{c} lemon": torch.eye(3)[i] for i, c in enumerate(colours)}

    def sample(number, answer, other, group):
        meta = {"choices": list(rows), "answer": answer, "other": other, "asked": "lemon" if number % 2 else "pear", "group": group}
        return Sample(str(number), white(), (), meta=meta)

    samples = [
        sample(0, 2, 0, "known"),
        sample(1, 2, 0, "known"),
        sample(2, 1, 2, "free"),
        sample(3, 0, 1, "free"),
        sample(4, 1, None, "alone"),
    ]
    image_ND = torch.tensor([[0.9, 0, 0.1], [0.8, 0, 0.2], [0, 0.9, 0.1], [0.1, 0.2, 0.7], [0, 1.0, 0]])
    asked, _ = question(samples, image_ND, rows)
    outcome = association.run(asked)
    assert value(outcome, "colour_bias") == (1 + 1 + 0 + 0) / 4
    assert value(outcome, "colour_accuracy") == (0 + 0 + 1 + 0 + 1) / 5
    assert value(outcome, "colour_bias[known]") == 1.0
    assert value(outcome, "colour_bias[free]") == 0.0
    assert value(outcome, "pull") == 1.0
    assert value(outcome, "colour_accuracy[alone]") == 1.0
    assert chance(outcome, "colour_bias") == pytest.approx(1 / 3)
    assert len(outcome.metrics[0].unit_N.unique()) == 2
    alone, _ = question(samples[4:], image_ND[4:], rows)
    with pytest.raises(UsageError, match="no sample has another thing"):
        association.run(alone)


# all of them, on the embedded model


BENCH = {
    "attributes": ("choice",),
    "relations": ("choice",),
    "counting": ("choice",),
    "regions": ("regions", "pointing"),
    "ordering": ("ordering",),
    "anomaly": ("anomaly",),
    "background": ("counteranimal", "perceptionclip"),
    "association": ("concept-association-bias",),
}


def test_the_sets_name_their_protocols_and_the_suites_have_them():
    for name, protocols in BENCH.items():
        assert find(f"pictobench/{name}").tasks == protocols
        assert suite.sets("full")[f"pictobench/{name}"] == protocols
    assert {name for name in suite.sets("quick") if name.startswith("pictobench")} == {"pictobench/attributes", "pictobench/relations"}


def test_protocols_do_not_apply_to_other_data(colour_model, colour_set):
    asked = {record.protocol for record in evaluate(colour_model(), colour_set, cache=False, suite="quick")}
    assert "choice" not in asked


@pytest.mark.parametrize("name", BENCH)
def test_every_set_runs_on_the_embedded_model_and_its_figures_have_their_form(name, tmp_path):
    records = evaluate(diptych.load("mini"), f"pictobench/{name}", limit=32, draws=20, cache=tmp_path / "cache", out=tmp_path)
    assert {record.protocol for record in records} == set(BENCH[name])
    for record in records:
        assert math.isfinite(record.value)
        assert record.chance is not None
        assert record.interval[0] <= record.interval[1]
    for section in json.loads((tmp_path / "details.json").read_text())["sets"]:
        found, wrong = figures.read(section["figures"])
        assert wrong == []
        assert len(found) == len(section["figures"])
