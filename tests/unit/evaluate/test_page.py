"""The page: words beside numbers, escaping, absent parts, damaged files."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
import yaml

from diptych.core.errors import DiptychError
from diptych.core.types import Record
from diptych.evaluate import record as record_file
from diptych.evaluate.outcome import About
from diptych.evaluate.report import build, svg, words

HOSTILE = '</script><img src=x onerror="alert(1)">{{ 7919*7907 }}\u202e\x00"\''


def record(metric: str = "top1", value: float = 0.5, chance: float = 0.1, **other) -> Record:
    fields = {"protocol": "zero_shot", "set": "s", "interval": (value - 0.1, value + 0.1), "n": 10, "seed": 0, "model": "m", "command": "c"}
    return Record(metric=metric, value=value, chance=chance, **{**fields, **other})


class Checker(HTMLParser):
    """Collects tags and text; every element that must be closed is."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag, f"</{tag}> closes the wrong element"


def check(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert checker.stack == []
    return checker


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0%"),
        (1, "100%"),
        (0.5236, "52.4%"),
        (0.0985, "9.85%"),
        (0.00069, "0.069%"),
        (0.9999, ">99.9%"),
        (0.0345, "3.45%"),
        (0.8, "80.0%"),
    ],
)
def test_percent_keeps_the_digits_that_tell_something(value, text):
    assert words.percent(value) == text


def test_metric_names_are_taken_apart():
    assert words.split("top1") == ("top1", "", "")
    assert words.split("top1[a.gain]") == ("top1", "a.gain", "")
    assert words.split("top1.gain") == ("top1", "", "gain")
    assert words.split("text_to_image_r@5.retention") == ("text_to_image_r@5", "", "retention")
    assert words.split("f1.5") == ("f1.5", "", "")


def test_statements_say_where_chance_is():
    told = "shown a picture and 12 names, it picks the right name 50.0% of the time (95% interval 40.0\u2060–\u206060.0%, guessing 10.0%)"
    assert words.statement(record(), 12) == told
    assert "right picture among the first ten" in words.statement(record("text_to_image_r@10", protocol="retrieval"))
    assert words.statement(record("odd", chance=None)) == "odd is 50.0% (95% interval 40.0\u2060–\u206060.0%)"
    assert [words.standing(record(value=v)) for v in (0.5, 0.15, -0.5)] == ["better", "at", "worse"]


def test_less_is_better_where_the_protocol_says_so(monkeypatch):
    module = SimpleNamespace(ABOUT={"error": About("Error", better="lower"), "rank": About("Rank", better="neither", share=False)})
    monkeypatch.setattr(words, "protocols", lambda: {"zero_shot": module})
    assert words.standing(record("error", 0.9, 0.5)) == "worse"
    assert words.standing(record("error", 0.1, 0.5)) == "better"
    assert [words.direction(record("error.gain", v)) for v in (0.3, -0.3, 0.05)] == ["down", "up", "even"]
    assert words.direction(replace(record("error.gain", 0.3), n=4)) == "even", "two classes that agree prove nothing"
    assert words.change(-0.3, record("error.gain")) == "−30.0"
    rank = record("rank", 12.5, 3.0)
    assert (words.shown(rank), words.standing(rank), words.times_chance(rank), words.change(-0.3, rank)) == ("12.5", "", "", "−0.3")
    assert words.direction(record("rank.gain", 0.5)) == "even"


def test_main_records_take_each_set_once_and_no_parts():
    rows = [record(f"text_to_image_r@{k}", protocol="retrieval") for k in (1, 5, 10)]
    rows += [record(), record("top5"), record("top1[x]"), record("top1.gain"), record(set="t"), record(set="u"), record(set="v")]
    assert [(r.set, r.metric) for r in words.main_records(rows)] == [*((s, "top1") for s in "stuv"), ("s", "text_to_image_r@1")]
    assert [(r.set, r.metric) for r in words.heads(rows)] == [*((s, "top1") for s in "stu"), ("s", "text_to_image_r@1")]


def test_ticks_are_round_and_inside():
    assert svg.ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert svg.ticks(1.3, 5.6) == [2, 3, 4, 5]
    assert svg.ticks(2, 2) == [2]
    assert [svg.number(v) for v in (0.05, 12500, 768_000, 3e6, 1234, 22_713_216)] == ["0.05", "12.5k", "768k", "3M", "1,234", "22.71M"]


def test_thinning_keeps_the_mean():
    points = [(float(i), float(i % 7)) for i in range(1000)]
    few = svg.thin(points)
    assert len(few) == svg.POINTS
    assert sum(y for _, y in few) / len(few) == pytest.approx(sum(y for _, y in points) / 1000, abs=0.02)


def test_a_chart_survives_flat_lines_and_drops_what_is_not_finite():
    flat = svg.line_chart([svg.Line("loss", [(1, 2.0), (2, math.nan), (3, 2.0)])], "t", "x")
    assert flat.count('class="hit"') == 2
    assert svg.line_chart([svg.Line("loss", [(1, math.inf)])], "t", "x") == ""
    check(str(flat))


def log(folder, rows=60):
    lines = [
        {"step": i, "samples": i * 8, "loss": 2 / (i + 1), "chance": math.log(8), "images_per_s": 100.0, "seconds": float(i)}
        for i in range(rows)
    ]
    lines.insert(30, {"step": 29, "validation": {"top1": 0.3, "top1[x]": 0.1}})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 61, "lo')


def test_hostile_text_stays_text(tmp_path):
    record_file.append(
        [record(set=HOSTILE, model=HOSTILE, command=HOSTILE), record(f"top1[{HOSTILE}]", set=HOSTILE, model=HOSTILE)],
        tmp_path / "records.jsonl",
    )
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"name": HOSTILE}))
    item = {"text": HOSTILE}
    query = {"query": item, "rank": 3, "of": 9, "answers": [{**item, "right": False, "score": 0.1}], "wanted": item}
    ways = {"best": [query], "worst": [query]}
    pair = {"picture": None, "other": None, "text": HOSTILE, "answer": HOSTILE, "note": HOSTILE}
    figures = [{"kind": "pictures", "title": HOSTILE, "about": HOSTILE, "items": [pair]}, {"kind": HOSTILE, "title": HOSTILE}]
    series = {"name": HOSTILE, "points": [[0, 1], [1, 2]]}
    figures.append({"kind": "lines", "title": HOSTILE, "x": HOSTILE, "y": HOSTILE, "series": [series]})
    figures.append({"kind": "bars", "title": HOSTILE, "rows": [{"name": HOSTILE, "value": 1}]})
    figures.append({"kind": "heat", "title": HOSTILE, "rows": [HOSTILE], "columns": [HOSTILE], "values": [[1]]})
    figures.append(
        {"kind": "slope", "title": HOSTILE, "left": HOSTILE, "right": HOSTILE, "series": [{"name": HOSTILE, "from": 1, "to": 2}]}
    )
    section = {"model": HOSTILE, "set": HOSTILE, "protocol": "zero_shot", "n": 3, "classes": 3, "notes": [HOSTILE], "about": HOSTILE}
    section |= {
        "figures": figures,
        "baseline": HOSTILE,
        "baseline_figures": figures,
        "captions": 9,
        "text_to_image": ways,
        "image_to_text": ways,
    }
    (tmp_path / "details.json").write_text(json.dumps({"version": 1, "sets": [section]}))
    page = build(tmp_path).read_text()
    checker = check(page)
    assert not [tag for tag, _ in checker.tags if tag == "img"]
    assert [tag for tag, _ in checker.tags].count("script") == 1
    assert not any(name.startswith("on") for _, attributes in checker.tags for name in attributes)
    assert str(7919 * 7907) not in page, "a template was filled"
    assert "\x00" not in page


def test_nothing_is_fetched(tmp_path):
    record_file.append([record()], tmp_path / "records.jsonl")
    log(tmp_path)
    page = build(tmp_path).read_text()
    assert "default-src 'none'" in page
    addresses = [v for _, attributes in check(page).tags for k, v in attributes.items() if k in ("src", "href") and v]
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert "http" not in re.sub(r'http-equiv="', "", page)


def test_a_log_alone_is_a_page(tmp_path):
    log(tmp_path)
    page = build(tmp_path).read_text()
    assert "How it learned" in page
    assert "Validation" in page
    assert 'id="overview"' not in page
    check(page)


def test_records_alone_are_a_page_and_the_newest_count(tmp_path):
    record_file.append([record(value=0.3), record(value=0.6)], tmp_path / "records.jsonl")
    page = build(tmp_path).read_text()
    assert "60.0%" in page
    assert "30.0%" not in page
    assert 'id="learning"' not in page


def test_gains_are_shown(tmp_path):
    rows = [record(), record("top1.gain", 0.2, 0.0), record("top1.retention", 0.9)]
    record_file.append(rows, tmp_path / "records.jsonl")
    page = build(tmp_path).read_text()
    assert '<span class="up">+20.0</span>' in page
    assert "differs by +20.0 points" in page
    assert "90.0% of what the baseline got right is still right" in page


def test_a_long_recipe_is_whole(tmp_path):
    record_file.append([record()], tmp_path / "records.jsonl")
    (tmp_path / "run.yaml").write_text("\n".join(f"key{i}: {i}" for i in range(300)))
    assert "key299: 299" in build(tmp_path).read_text()


def failure(protocol: str, why: str) -> str:
    row = {"model": "m", "set": "s", "protocol": protocol, "what": "w", "why": why, "mend": "Mend it"}
    return json.dumps({"failed": row}) + "\n"


def test_what_failed_is_listed_until_it_is_made_good(tmp_path):
    record_file.append([record()], tmp_path / "records.jsonl")
    good = json.dumps({"key": "k", "records": [record(protocol="probe").as_dict()]}) + "\n"
    lines = [failure("probe", "broken once"), failure("knn", "broken <still>"), good, failure("knn", "broken again"), "{cut sho"]
    (tmp_path / "progress.jsonl").write_text("".join(lines))
    page = build(tmp_path).read_text()
    assert "1 part failed and is missing here" in page
    assert "broken once" not in page
    assert "broken &lt;still&gt;" not in page
    assert "w: broken again. Mend it." in page
    check(page)


def test_a_figure_without_its_form_costs_only_itself(tmp_path):
    record_file.append([record()], tmp_path / "records.jsonl")
    figures = [{"kind": "bars", "title": "Good one", "rows": [{"name": "a", "value": 1}]}, {"kind": "bars", "title": "Bad one"}]
    section = {"model": "m", "set": "s", "protocol": "zero_shot", "n": 3, "figures": figures}
    (tmp_path / "details.json").write_text(json.dumps({"version": 1, "sets": [section]}))
    page = build(tmp_path).read_text()
    assert "<strong>Good one</strong>" in page
    assert "zero_shot on s: figure Bad one is left out: rows: Field required" in page
    assert "<strong>Bad one</strong>" not in page


def test_other_models_of_the_folder_stand_beside(tmp_path):
    record_file.append([record(value=v, model=name) for name, v in (("old", 0.3), ("new", 0.6))], tmp_path / "records.jsonl")
    page = build(tmp_path).read_text()
    assert '<th scope="col" class="num">new</th>' in page
    assert '<th scope="col" class="num">old</th>' in page
    assert '<td class="num" data-label="old">30.0%' in page
    assert "beside it old has 30.0%" in page


def test_a_picture_is_inside_once_however_often_it_is_shown(tmp_path):
    record_file.append([record()], tmp_path / "records.jsonl")
    (tmp_path / "thumbs").mkdir()
    name = "0123456789abcdef.webp"
    (tmp_path / "thumbs" / name).write_bytes(b"RIFF")
    figure = {"kind": "pictures", "title": "t", "items": [{"picture": name, "other": name, "text": f"a {i}"} for i in range(20)]}
    section = {"model": "m", "set": "s", "protocol": "zero_shot", "n": 3, "figures": [figure]}
    (tmp_path / "details.json").write_text(json.dumps({"version": 1, "sets": [section]}))
    page = build(tmp_path).read_text()
    assert page.count("data:image/webp;base64,UklGRg==") == 1
    assert page.count('class="thumb p-0123456789abcdef" role="img" aria-label="a 7"') == 1
    assert page.count("thumb p-0123456789abcdef") == 40


def test_many_records_make_a_page_of_a_few_megabytes(tmp_path):
    metrics = [f"{name}{part}" for name in ("top1", "top5") for part in ("", ".gain", ".retention", *(f"[part {i}]" for i in range(22)))]
    rows = [record(metric, set=f"set-{i}") for i in range(30) for metric in metrics]
    assert len(rows) == 1500
    record_file.append(rows, tmp_path / "records.jsonl")
    page = build(tmp_path).read_text()
    check(page)
    assert len(page) < 3_000_000


def test_refusals(tmp_path):
    with pytest.raises(DiptychError, match=r"neither records.jsonl nor log.jsonl"):
        build(tmp_path)
    record_file.append([record()], tmp_path / "records.jsonl")
    (tmp_path / "details.json").write_text("[]")
    with pytest.raises(DiptychError, match="not a version 1 file"):
        build(tmp_path)
    (tmp_path / "thumbs").mkdir()
    (tmp_path / "secret").write_text("mine")
    figure = {"kind": "pictures", "title": "t", "items": [{"picture": "../secret", "text": "a"}]}
    section = {"model": "m", "set": "s", "protocol": "zero_shot", "n": 3, "classes": 3, "figures": [figure]}
    (tmp_path / "details.json").write_text(json.dumps({"version": 1, "sets": [section]}))
    with pytest.raises(DiptychError, match="no such thumbnail"):
        build(tmp_path)
    (tmp_path / "details.json").unlink()
    (tmp_path / "log.jsonl").write_text("{]\n{}\n")
    with pytest.raises(DiptychError, match="line 1: not valid JSON"):
        build(tmp_path)
    assert not (tmp_path / "report.html").exists()
