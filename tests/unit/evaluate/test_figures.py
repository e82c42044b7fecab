"""Figures: what has its form is taken, what has not is named; drawings stand where hand-worked coordinates say."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace

import pytest

from diptych.evaluate import details
from diptych.evaluate.report import drawing, figures, svg

LINES = {"kind": "lines", "title": "t", "x": "x", "y": "y", "series": [{"name": "a", "points": [[0, 0.5], [1, 1.0]]}]}
BARS = {"kind": "bars", "title": "t", "rows": [{"name": "a", "value": 0.5}]}
HEAT = {"kind": "heat", "title": "t", "rows": ["a"], "columns": [1, 2], "values": [[0.25, None]]}
SLOPE = {"kind": "slope", "title": "t", "left": "l", "right": "r", "series": [{"name": "a", "from": 0.5, "to": 0.25}]}
PICTURES = {"kind": "pictures", "title": "t", "items": [{"picture": None, "text": "a"}]}
NAMES = ("new", "old")


@pytest.mark.parametrize("figure", [LINES, BARS, HEAT, SLOPE, PICTURES], ids=lambda figure: figure["kind"])
def test_the_shortest_form_of_each_kind_is_drawn_alone_and_in_pairs(figure):
    found = figures.parse(figure)
    assert found.title == "t"
    assert drawing.draw(found, NAMES).title == "t"
    both = drawing.draw(found, NAMES, found)
    if both.panels:
        assert [panel.name for panel in both.panels] == ["new", "old"]


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        ({**BARS, "kind": "pie"}, "'pie'"),
        ({"title": "t"}, "discriminator 'kind'"),
        ({**BARS, "rows": [{"name": "a", "value": math.nan}]}, r"rows.0.value: .*finite"),
        ({**BARS, "rows": [{"name": "a", "value": 1, "colour": "red"}]}, r"rows.0.colour: Extra"),
        ({**BARS, "rows": []}, "rows: .*at least 1"),
        ({**HEAT, "values": [[1]]}, "must be 1 rows of 2 numbers"),
        ({**SLOPE, "series": [{"name": "a", "from": 1}]}, "series.0.to: Field required"),
        ({**LINES, "series": [{"name": "a", "points": [[0, 1]], "low": [0]}]}, "low and high come together"),
        ({**LINES, "series": [{"name": "a", "points": [[0, 1]], "low": [0], "high": [1, 2]}]}, "one number a point"),
        ({**LINES, "log": True}, "every x above 0"),
        ({**PICTURES, "items": [{"picture": None, "text": "a"}] * 49}, "at most 48"),
    ],
)
def test_what_has_not_its_form_is_named(figure, said):
    with pytest.raises(ValueError, match=said):
        figures.parse(figure)
    kept, wrong = figures.read([BARS, figure])
    assert len(kept) == len(wrong) == 1
    assert "figure t is left out" in wrong[0]


def test_what_is_no_list_of_figures_is_said():
    assert figures.read({"kind": "bars"}) == ([], ["its figures are no list"])
    assert figures.read("bars")[1] == ["its figures are no list"]
    assert figures.read([3])[1][0].startswith("figure 1 is left out")
    assert figures.read(()) == ([], [])


def test_texts_are_cut_and_empty_cells_are_none():
    assert len(figures.parse({**BARS, "title": "x" * 500}).title) == figures.LONGEST
    heat = figures.parse({**HEAT, "values": [[math.nan, 1]]})
    assert isinstance(heat, figures.Heat)
    assert heat.values == [[None, 1.0]]
    assert heat.columns == ["1", "2"]


def test_shares_are_told_by_their_range_unless_said():
    assert figures.parse(BARS).percent()
    assert not figures.parse({**BARS, "share": False}).percent()
    assert not figures.parse({**BARS, "rows": [{"name": "a", "value": 0.5, "high": 1.5}]}).percent()
    shown = drawing.draw(figures.parse({**BARS, "rows": [{"name": "a", "value": 12.5, "low": -3, "high": 20}]}), NAMES)
    assert shown.more["rows"][0][1][0]["value"] == "12.5"
    assert shown.more["scale"] == "−10 to 20"


@pytest.mark.parametrize(
    ("numbers", "ends"),
    [([0.3, 0.44], (0, 0.6)), ([0.3, 0.5], (0, 0.6)), ([0.2, 0.97], (0, 1)), ([5.5, -3.2], (-5, 10)), ([0, 0], (0, 1)), ([0.0], (0, 1))],
)
def test_scales_hold_their_numbers(numbers, ends):
    low, high = drawing.scale(numbers)
    assert (low, high) == pytest.approx(ends)
    assert low <= min(numbers) <= max(numbers) <= high


def test_a_bar_runs_from_zero_and_is_found_by_name_in_the_other_model():
    other = {**BARS, "rows": [{"name": "b", "value": 0.1}, {"name": "a", "value": 0.25}]}
    shown = drawing.draw(
        figures.parse({**BARS, "rows": [{"name": "a", "value": 0.5}, {"name": "c", "value": 0.8}]}), NAMES, figures.parse(other)
    )
    (_, (mine, theirs)), (_, (_, none)) = shown.more["rows"]
    assert (mine["value"], theirs["value"], none) == ("50.0%", "25.0%", None)
    assert 'class="bar" x="0.0" y="3" width="62.5"' in mine["mark"]  # 0.5 on a scale to 0.8
    signed = svg.interval_mark(-1, None, None, "t", top=3, bottom=-2)
    assert 'class="bar" x="20.0" y="3" width="20.0"' in signed


def test_heat_is_strongest_at_the_largest_number_of_both_models():
    mine, theirs = {**HEAT, "values": [[0.2, 0.0]]}, {**HEAT, "values": [[0.4, None]]}
    panels = drawing.draw(figures.parse(mine), NAMES, figures.parse(theirs)).panels
    assert panels[0].rows == [("a", [("20", 50, "above"), ("0", 0, "above")])]
    assert panels[1].rows == [("a", [("40", 100, "above"), ("", 0, "none")])]
    assert panels[0].said == "lowest 0% at a, 2. highest 20.0% at a, 1. "
    signed = drawing.draw(figures.parse({**HEAT, "values": [[-2, 1.25]]}), NAMES).panels[0]
    assert signed.rows[0][1] == [("−2", 100, "below"), ("1.25", 62, "above")]
    far = drawing.draw(figures.parse({**HEAT, "values": [[0.9, 1.0]]}), NAMES).panels[0]
    assert [strength for _, strength, _ in far.rows[0][1]] == [0, 100]


def dots(drawn: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'class="hit" cx="([\d.]+)" cy="([\d.]+)"', drawn)]


def test_points_stand_where_they_should():
    left, width, top, height = svg.LEFT, svg.WIDTH - svg.LEFT - svg.RIGHT, svg.TOP + 12, svg.HEIGHT - svg.TOP - 12 - svg.BOTTOM
    square = svg.line_chart([svg.Line("a", [(0.25, 0.5), (0.75, 1.0)])], "t", "x", y_label="y", diagonal=True)
    assert dots(square) == [(left + width / 4, top + height / 2), (left + 3 * width / 4, top)]
    assert f'class="curve chance" d="M{left}.0 {top + height}.0L{left + width}.0 {top}.0"' in square
    log = dots(svg.line_chart([svg.Line("a", [(1, 0), (2, 1), (4, 2)])], "t", "x", log=True))
    assert [x for x, _ in log] == [left, left + width / 2, left + width]


def test_two_charts_side_by_side_have_one_scale():
    low = {**LINES, "series": [{"name": "a", "points": [[0, 0.1], [1, 0.2]]}]}
    alone = drawing.draw(figures.parse(low), NAMES).panels[0].drawing
    beside = drawing.draw(figures.parse(low), NAMES, figures.parse(LINES)).panels
    assert dots(str(beside[0].drawing)) != dots(str(alone))
    same = drawing.draw(figures.parse(LINES), NAMES, figures.parse(low)).panels
    assert dots(str(beside[0].drawing)) == dots(str(same[1].drawing))
    slopes = [figures.parse({**SLOPE, "series": [{"name": "a", "from": a, "to": a}]}) for a in (0.2, 0.8)]
    first, second = (panel.drawing for panel in drawing.draw(slopes[0], NAMES, slopes[1]).panels)
    ys = [float(re.findall(r'd="M62 ([\d.]+)L', str(drawn))[0]) for drawn in (first, second)]
    assert ys[0] > ys[1]  # downwards


def test_every_chart_says_in_words_and_numbers_what_it_shows():
    panel = drawing.draw(figures.parse({**LINES, "x_share": True}), NAMES).panels[0]
    assert 'aria-label="t: y over x. a: from 50.0% at 0% to 100% at 100%."' in str(panel.drawing)
    assert (panel.head, panel.table) == (("Curve", "x", "y"), [["a", "0%", "50.0%"], ["a", "100%", "100%"]])
    banded = {**LINES, "series": [{"name": "a", "points": [[i, i] for i in range(1000)], "low": [0] * 1000, "high": [9] * 1000}]}
    panel = drawing.draw(figures.parse(banded), NAMES).panels[0]
    assert len(panel.table) == drawing.TABLE_ROWS
    assert panel.table[0] == ["a", "0", "0", "0\u2060–\u20609"]
    assert 'class="band s0"' in str(panel.drawing)
    panel = drawing.draw(figures.parse(SLOPE), NAMES).panels[0]
    assert 'aria-label="t, from l to r: a 50.0% to 25.0%."' in str(panel.drawing)
    assert panel.table == [["a", "50.0%", "25.0%"]]


def test_labels_keep_apart_and_inside():
    assert svg.apart([(10, "a"), (12, "b"), (50, "c")], 15, 0, 100) == [(10, "a"), (25, "b"), (50, "c")]
    assert svg.apart([(98, "b"), (97, "a")], 15, 0, 100) == [(85, "a"), (100, "b")]
    assert svg.apart([], 15, 0, 100) == []


def test_a_section_that_cannot_be_made_is_told_and_what_is_not_finite_is_null():
    def broken(outcome, thumbs):
        raise ZeroDivisionError("nothing to divide\nby")

    assert details._shown(SimpleNamespace(section=broken), None, None) == "ZeroDivisionError: nothing to divide"  # type: ignore[arg-type]
    module = SimpleNamespace(section=lambda outcome, thumbs: {"figures": [math.nan, 1.5, (2, math.inf)]})
    assert details._shown(module, None, None) == {"figures": [None, 1.5, [2, None]]}  # type: ignore[arg-type]
