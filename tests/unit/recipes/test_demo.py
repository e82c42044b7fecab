"""The demo, with a second of training: everything that its user sees is there."""

from __future__ import annotations

import json

from rich.console import Console

from diptych.recipes import demo
from diptych.towers.formats.load import load


def test_demo_leaves_a_measured_model_and_can_be_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SETS", ["pictograms/unseen"])
    console = Console(quiet=True)
    for _ in range(2):
        found = demo.run_demo(tmp_path / "demo", 1.0, console)
        top1 = next(row for row in found["records"] if row["metric"] == "top1")
        assert (top1["set"], top1["chance"]) == ("pictograms/unseen", 1 / 145)
        assert (tmp_path / "demo" / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    lines = [json.loads(line) for line in (tmp_path / "demo" / "records.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == len(found["records"])  # the second run does not add to the first's
    assert load(found["model"]).encode_text(["a dog"]).shape == (1, 384)


def test_the_recipe_trains_the_image_side_only():
    run = demo.demo(60)
    assert run.init.frozen == {"text", "text_projection"}
    assert run.budget.seconds == 60
