"""Models on the same examples: differences that hold together, ranks, resuming, the page."""

from __future__ import annotations

import json
import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.stats import norm, rankdata

from diptych.core.errors import DiptychError, UsageError
from diptych.core.rng import generator
from diptych.evaluate import resamples
from diptych.evaluate.compare import Cell, Row, build, compare
from diptych.evaluate.likeness import Likeness, between
from diptych.evaluate.material import Material, hash_of
from diptych.evaluate.metrics import bootstrap, cka, standing
from diptych.evaluate.report.compare_page import bounds, direction, likeness, likeness_bounds, places, rank_of, signed, statement, value
from diptych.evaluate.resamples import Kept
from diptych.evaluate.run import subject


def kept(name: str, hit_N: torch.Tensor, better: str = "higher", metric: str = "top1") -> Kept:
    found = bootstrap.mean(hit_N, generator(0, name, metric))
    return Kept(name, "zero_shot", metric, "Naming: Top-1", better, True, 0.1, len(hit_N), found.value, found.interval, "x", found.draws_S)  # type: ignore[arg-type]


def test_ranks_equal_scipys_with_ties() -> None:
    score_SM = torch.randint(0, 4, (50, 6), generator=generator(0, "ranks")).double()
    expected = torch.tensor(rankdata(-score_SM.numpy(), axis=1))
    assert torch.equal(standing.ranks(score_SM), expected)


def test_ranks_and_intervals_equal_their_reference() -> None:
    twin = runpy.run_path(str(Path(__file__).parents[2] / "reference" / "standing.py"))
    draw = generator(0, "twin")
    score_SM = torch.randint(0, 5, (40, 5), generator=draw).double()
    assert standing.ranks(score_SM).tolist() == twin["ranks"](score_SM.tolist())
    value_J = torch.tensor([0.3, -0.1, 0.0], dtype=torch.float64)
    draw_SJ = value_J + torch.tensor([0.02, 0.1, 0.0]) * torch.randn(60, 3, generator=draw, dtype=torch.float64)
    draw_SJ[7, 1] = torch.nan
    floor_J = torch.tensor([0.001, 0.001, 0.05], dtype=torch.float64)
    low_J, high_J, reach = standing.together(value_J, draw_SJ, floor_J)
    low, high, far = twin["together"](value_J.tolist(), draw_SJ.tolist(), floor_J.tolist())
    assert reach == pytest.approx(far, rel=1e-12)
    assert low_J.tolist() == pytest.approx(low, rel=1e-12)
    assert high_J.tolist() == pytest.approx(high, rel=1e-12)


def test_rank_intervals_leave_out_resamples_without_a_number() -> None:
    draw_SM = torch.tensor([[3.0, 2.0, 1.0]] * 98 + [[1.0, 2.0, 3.0], [torch.nan, 9.0, 9.0]])
    assert standing.rank_intervals(draw_SM).tolist() == [[1, 1], [2, 2], [3, 3]]


def test_one_comparison_reaches_as_far_as_the_normal_distribution() -> None:
    draw_SJ = 0.3 + 0.02 * torch.randn(200_000, 1, generator=generator(0, "one"), dtype=torch.float64)
    low_J, high_J, reach = standing.together(torch.tensor([0.3]), draw_SJ, torch.tensor([1e-9]))
    assert reach == pytest.approx(norm.ppf(0.975), abs=0.01)
    assert [float(low_J), float(high_J)] == pytest.approx([0.3 - 0.0392, 0.3 + 0.0392], abs=5e-4)


def test_many_independent_comparisons_reach_as_far_as_sidak() -> None:
    draw_SJ = torch.randn(200_000, 8, generator=generator(0, "many"), dtype=torch.float64)
    *_, reach = standing.together(torch.zeros(8), draw_SJ, torch.full((8,), 1e-9))
    assert reach == pytest.approx(norm.ppf((1 + 0.95 ** (1 / 8)) / 2), abs=0.015)


def test_intervals_hold_together_as_often_as_they_say() -> None:
    draw = generator(0, "cover")
    held = 0
    for trial in range(150):
        hits = (torch.rand(120, 4, generator=draw) < torch.tensor([0.6, 0.6, 0.5, 0.7])).double()
        found = [bootstrap.mean(hits[:, m], generator(trial, "same"), draws=300) for m in range(4)]
        value_J = torch.tensor([found[m].value - found[0].value for m in (1, 2, 3)])
        draw_SJ = torch.stack([found[m].draws_S - found[0].draws_S for m in (1, 2, 3)], 1)  # type: ignore[operator]
        low_J, high_J, _ = standing.together(value_J, draw_SJ, torch.full((3,), 1 / 120))
        true_J = torch.tensor([0.0, -0.1, 0.1])
        held += bool(((low_J <= true_J) & (true_J <= high_J)).all())
    assert 0.89 <= held / 150 <= 1.0


def test_draws_of_two_models_are_paired() -> None:
    one_N, two_N = (torch.rand(2, 400, generator=generator(0, "paired")) < 0.5).double()
    draws = [bootstrap.mean(hit_N, generator(7, "same")).draws_S for hit_N in (one_N, two_N)]
    paired = bootstrap.difference(two_N, one_N, generator(7, "same"))
    assert draws[0] is not None
    assert draws[1] is not None
    assert paired.draws_S is not None
    torch.testing.assert_close(draws[1] - draws[0], paired.draws_S)


def test_what_differs_is_said_and_what_may_not_is_not() -> None:
    draw = generator(0, "world")
    base_N = (torch.rand(500, generator=draw) < 0.5).double()
    much_N = torch.where(torch.rand(500, generator=draw) < 0.4, torch.ones(500).double(), base_N)
    flips = torch.randperm(500, generator=draw)[:6]
    alike_N = base_N.clone()
    alike_N[flips] = 1 - alike_N[flips]
    names = ["base", "much", "alike"]
    rows = [[kept("set", hit_N) for hit_N in (base_N, much_N, alike_N)]]
    rows.append([kept("set", 1 - hit_N, "lower", "error") for hit_N in (base_N, much_N, alike_N)])
    made = build(names, "base", rows, {name: (10.0 * (i + 1), 1000 * (i + 1)) for i, name in enumerate(names)})
    assert [direction(made.rows[0], cell) for cell in made.rows[0].cells] == ["", "up", ""]
    assert [direction(made.rows[1], cell) for cell in made.rows[1].cells] == ["", "up", ""], "a lower error is better"
    assert [cell.rank for cell in made.rows[1].cells][1] == 1
    assert made.standings[0].model == "much"
    assert made.standings[0].rank_interval == (1, 1)
    assert made.standings[0].average == pytest.approx(float(much_N.mean())), "the error is no part of the average"
    assert made.standings[0].milliseconds == 20
    assert statement(made) == (
        "Of 4 differences to base, 2 are better and 0 worse, all of these together with 95% confidence; 2 cannot be told from none. "
        "much has the best average on 95% of the resamples or more."
    )
    other = build(names, "much", rows, dict.fromkeys(names, (None, None)))
    assert [direction(other.rows[0], cell) for cell in other.rows[0].cells] == ["down", "", "down"]


def test_equal_models_differ_in_nothing() -> None:
    hit_N = (torch.arange(40) % 3 == 0).double()
    made = build(["a", "b"], "a", [[kept("set", hit_N), kept("set", hit_N)]], {"a": (None, None), "b": (None, None)})
    cell = made.rows[0].cells[1]
    assert cell.difference == 0
    assert cell.together == (0, 0)
    assert direction(made.rows[0], cell) == ""
    assert [one.rank for one in made.standings] == [1.5, 1.5]


@pytest.fixture
def models(colour_model) -> list:
    return [colour_model(name="right"), colour_model({"red": "green", "green": "red"}, name="swapped")]


def test_models_are_compared_and_the_folder_goes_on(models: list, colour_set: Material, tmp_path: Path) -> None:
    said: list[str] = []
    made = compare(models, colour_set, out=tmp_path, cache=False, draws=200, command="typed & said", say=said.append)
    rows = {row.protocol: row for row in made.rows}
    assert {"zero_shot", "retrieval"} <= set(rows)
    assert [cell.value for cell in rows["zero_shot"].cells] == pytest.approx([1.0, 5 / 7])
    assert rows["zero_shot"].cells[1].difference == pytest.approx(-2 / 7)
    assert rows["zero_shot"].n == 7
    assert made.standings[0].model == "right"
    assert made.standings[0].milliseconds is not None
    told = json.loads((tmp_path / "comparison.json").read_text())
    assert told["rows"][0]["cells"][0]["value"] == 1.0
    page = (tmp_path / "compare.html").read_text()
    assert "typed &amp; said" in page
    assert not re.search(r'(?:src|href)="https?:', page), "nothing is fetched"
    for one in made.standings:
        assert (tmp_path / one.report).exists()
    said.clear()
    again = compare(models, colour_set, out=tmp_path, cache=False, draws=200, say=said.append)
    assert said
    assert all(line.endswith("done before") for line in said)
    assert again.rows == made.rows


def test_rows_of_two_models_are_alike_or_not(models: list, colour_set: Material, tmp_path: Path) -> None:
    """A turned and scaled copy of a model is wholly alike; one that sees other things is as alike as CKA by hand says."""
    turned, other = (replace_rows(models[0], name, of) for name, of in (("turned", lambda x: -x.flip(1)), ("other", torch.abs)))
    same_pictures = replace(colour_set, name="the same again")
    made = compare([models[0], turned, other], [colour_set, same_pictures], out=tmp_path, cache=False, draws=50, protocols=["zero_shot"])
    found = {(one.left, one.right): one for one in made.likeness}
    assert list(found) == [("right", "turned"), ("right", "other"), ("turned", "other")], "each pair once, and the set's pictures once"
    assert found["right", "turned"].value == pytest.approx(1)
    rows = models[0].encode_image(list(colour_set.source))
    by_hand = cka.cka(rows, rows.abs())
    assert by_hand < 0.9
    assert found["right", "other"].value == pytest.approx(by_hand, abs=1e-6)
    assert found["right", "other"].interval[0] < by_hand < found["right", "other"].interval[1]
    assert found["right", "other"].n == 7
    page = (tmp_path / "compare.html").read_text()
    assert "How alike they are" in page
    assert page.count(" and <bdi>other</bdi>") == 2


def replace_rows(model, name: str, change):
    """The same model under another name, with changed rows of pictures."""
    made = type(model)(name=name)
    made.encode_image = lambda images, **more: change(model.encode_image(images))
    return made


def test_pictures_that_a_model_gives_one_row_have_no_likeness(models: list, colour_set: Material) -> None:
    blind = replace_rows(models[0], "blind", torch.ones_like)
    cached = {model.config.name: (lambda model=model: subject(model, False, 8, False)) for model in (models[0], blind)}
    found, missing = between(cached, [colour_set])
    assert found == ()
    assert missing == ("colours, likeness of the models: the number has no value on all or on some of the examples",)


def test_what_cannot_be_paired_is_left_out(models: list, colour_set: Material, tmp_path: Path) -> None:
    compare(models, colour_set, out=tmp_path, cache=False, draws=50, protocols=["zero_shot"])
    folders = sorted((tmp_path / "models").iterdir())
    found = resamples.read(folders[0], "colours", "zero_shot")
    assert found is not None
    assert resamples.read(folders[0], "colours", "no_such") is None
    path = next((folders[0] / "draws").iterdir())
    path.unlink()
    with pytest.raises(DiptychError, match="no number was measured"):
        compare(models, colour_set, out=tmp_path, cache=False, draws=50, protocols=["zero_shot"])
    path.write_bytes(b"broken")
    with pytest.raises(DiptychError, match="cannot be read"):
        resamples.read(folders[0], "colours", "zero_shot")


def test_other_samples_have_another_key(colour_set: Material, colour_model, tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    from diptych.evaluate.run import evaluate

    evaluate(colour_model(), colour_set, out=first, cache=False, draws=50, protocols=["zero_shot"])
    fewer = replace(colour_set, source=list(colour_set.source)[:-1], fingerprint=hash_of(["fewer"]))
    evaluate(colour_model(), fewer, out=second, cache=False, draws=50, protocols=["zero_shot"])
    one, two = (resamples.read(folder, "colours", "zero_shot") for folder in (first, second))
    assert one is not None
    assert two is not None
    assert one.samples != two.samples


def test_a_wrong_call_says_so(models: list, colour_set: Material, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1 model was given"):
        compare(models[:1], colour_set, out=tmp_path)
    with pytest.raises(UsageError, match="given twice"):
        compare([models[0], models[0]], colour_set, out=tmp_path)
    with pytest.raises(UsageError, match="none of the models"):
        compare(models, colour_set, out=tmp_path, reference="other")
    (tmp_path / "photos").mkdir()
    with pytest.raises(DiptychError, match="no-such-model") as missing:
        compare(["no-such-model", "other"], colour_set, out=tmp_path)
    assert "--data" not in missing.value.mend
    with pytest.raises(DiptychError, match="photos") as data:
        compare([str(tmp_path / "photos"), "mini"], colour_set, out=tmp_path)
    assert data.value.mend.endswith("if it is data, name it behind --data (data=)")
    with pytest.raises(DiptychError, match="no-such-model"):
        compare(["no-such-model", "other"], colour_set, out=tmp_path)


def test_words_of_numbers() -> None:
    assert (value(0.5, True), value(41.234, False)) == ("50.0%", "41.23")
    assert (signed(-0.123, True), signed(0.5, False)) == ("−12.3 pt", "+0.5")
    assert (bounds((-0.1, 0.2), True), bounds((1, 2), False)) == ("−10.0 … 20.0%", "1 … 2")
    assert (places((1, 1)), places((1, 2.5))) == ("1", "1–2.5")
    row = Row("s", "p", "m", "t", "higher", True, None, 9, ())
    sure, open_ = (Cell("m", 0.5, (0.4, 0.6), None, None, 2.0, spread) for spread in ((2, 2), (1, 3)))
    assert [rank_of(row, sure), rank_of(row, open_), rank_of(replace(row, better="neither"), sure)] == ["2", "2 (1–3)", "–"]
    alike = Likeness("s", "a", "b", 0.2203, (-0.012, 0.3716), 80)
    assert (likeness(alike), likeness_bounds(alike)) == ("0.22", "−0.01 … 0.37")
