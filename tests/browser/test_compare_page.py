"""A comparison in headless Chromium: no errors, no requests, nothing wider than the window, light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diptych.core.rng import generator
from diptych.evaluate.compare import build
from diptych.evaluate.likeness import Likeness
from diptych.evaluate.metrics import bootstrap
from diptych.evaluate.report.compare_page import render
from diptych.evaluate.resamples import Kept

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
if CHROMIUM is None:
    pytest.skip("no chromium on this machine (Debian: apt-get install chromium)", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is in the test extra")

MODELS = ("mini", "a-folder/with-a-rather-long-name/my-model", "<script>alert(1)</script>")


def kept(name: str, row: int, model: int) -> Kept:
    hit_N = (torch.rand(90, generator=generator(row, name)) < 0.2 + 0.3 * model).double()
    found = bootstrap.mean(hit_N, generator(row, "draws"))
    assert found.draws_S is not None
    better = ("higher", "lower", "neither")[row % 3]
    title = "Image–text retrieval: Text → image, recall at 5"
    return Kept(name, "p", "m", title, better, row != 2, 0.1, found.n, found.value, found.interval, "x", found.draws_S)


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sets = [f"set-{row}/with-a-rather-long-name-for-a-phone" for row in range(9)]
    rows = [[kept(name, row, model) for model in range(3)] for row, name in enumerate(sets)]
    made = build(MODELS, "mini", rows, {name: (10.0**m, 10 ** (6 + m)) for m, name in enumerate(MODELS)}, ("set, p: no resamples of mini",))
    alike = tuple(Likeness(name, MODELS[0], MODELS[1 + n % 2], 0.2, (-0.1, 0.4), 90) for n in range(4) for name in sets)
    path = tmp_path_factory.mktemp("compared") / "compare.html"
    path.write_text(render(replace(made, likeness=alike, command="diptych compare mini other --out " + "x" * 200)), encoding="utf-8")
    return path


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 360)])
def test_a_comparison_renders_without_errors_or_requests(
    open_watched: Callable[..., None], page_path: Path, scheme: str, width: int
) -> None:
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})  # type: ignore[arg-type]
        context.set_default_timeout(180_000)
        page = context.new_page()
        open_watched(page, page_path, width)
        assert page.locator("svg.chart:visible").count() == 2
        assert page.locator("section:has(#likeness) tbody tr:visible").count() == 36
        assert page.locator("td.up:visible, td.down:visible").count() >= 6
        assert page.locator("h2:visible").all_inner_texts() == ["Standing", "What it costs", "Every number", "How alike they are", "Recipe"]
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 21, 20)"
        assert dark == (scheme == "dark")
        browser.close()
