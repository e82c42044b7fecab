"""The page in headless Chromium: no errors, no requests, nothing wider than the window, theme by keyboard."""

from __future__ import annotations

import io
import json
import math
import shutil
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from diptych.core.rng import generator
from diptych.core.types import Sample
from diptych.evaluate.material import Material, hash_of
from diptych.evaluate.run import evaluate

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
if CHROMIUM is None:
    pytest.skip("no chromium on this machine (Debian: apt-get install chromium)", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is in the test extra")

WORDS = ["red", "green", "blue", "apple", "<script>alert(1)</script>", "ship", "star", "moon", "tree", "house"]


@dataclass
class Guess:
    """Random but repeatable rows."""

    name: str

    def __post_init__(self) -> None:
        self.config, self.templates = SimpleNamespace(name=self.name), ("{}",)

    def encode_image(self, images, batch_size=64, progress=False):
        return torch.nn.functional.normalize(
            torch.stack([torch.randn(8, generator=generator(0, self.name, s.label)) for s in images]), dim=1
        )

    def encode_text(self, texts, batch_size=256, progress=False):
        return torch.nn.functional.normalize(torch.stack([torch.randn(8, generator=generator(1, t)) for t in texts]), dim=1)


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "a run"
    folder.mkdir()
    samples = []
    for i in range(60):
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16), (i * 4, 255 - i * 4, 80)).save(buffer, "PNG")
        label = i % len(WORDS)
        captions = (f"a {WORDS[label]} {'very ' * (i // 8)}thing", "x" * 200 if i == 7 else f"{WORDS[label]} {i}")
        samples.append(Sample(f"s{i}", buffer.getvalue(), captions, label, None, {"group": f"part {i % 3}"}))
    data = Material("a-set/with-a-rather-long-name-for-a-phone", "1", samples, hash_of(s.id for s in samples), tuple(WORDS), ("{}",))
    rows = [
        {"step": s, "samples": s * 64, "loss": 4 * math.exp(-s / 50), "chance": math.log(64), "images_per_s": 400.0, "seconds": s / 6}
        for s in range(100)
    ]
    rows.append({"step": 99, "validation": {"top1": 0.4, "top5": 0.6}})
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "run.yaml").write_text("name: test\n")
    evaluate(
        Guess("new"),
        [data, replace(data, name="other")],
        baseline=Guess("old"),
        cache=False,
        out=folder,
        command="diptych evaluate new a-set",
    )
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as play:
        running = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        yield running
        running.close()


def opened(browser, scheme, width=1200):
    """A fresh page; the patience is for crowded machines."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    context.set_default_timeout(180_000)
    context.set_default_navigation_timeout(180_000)
    return context.new_page()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("light", 360)])
def test_renders_without_errors_or_requests(browser, page_path, scheme, width):
    page = opened(browser, scheme, width)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append("a dialog opened"))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page_path.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("Promise.all([...document.images].map(image => image.decode())).then(all => all.length)") > 50
    assert page.locator("svg.chart").count() == 2
    assert page.locator("h2:visible").count() >= 7
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 21, 20)"
    assert dark == (scheme == "dark")
    page.context.close()


def test_theme_by_keyboard_and_print(browser, page_path):
    page = opened(browser, "light")
    page.goto(page_path.as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#theme").is_visible()
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(browser, page_path, scheme):
    """Every colour that text is set in reaches 4.5 : 1 on paper and on cards (WCAG 2.2, 1.4.3)."""
    page = opened(browser, scheme)
    page.goto(page_path.as_uri())
    ratios = page.evaluate(
        """() => {
          const style = getComputedStyle(document.documentElement);
          const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
          const light = (name) => {
            const hex = style.getPropertyValue(name).trim().slice(1);
            const part = [0, 2, 4].map((i) => linear(parseInt(hex.slice(i, i + 2), 16) / 255));
            return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
          };
          const found = {};
          for (const ink of ["--ink", "--soft", "--accent", "--chance", "--good", "--bad"])
            for (const ground of ["--paper", "--card", "--code"]) {
              const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
              found[ink + " on " + ground] = (a + 0.05) / (b + 0.05);
            }
          return found;
        }"""
    )
    assert len(ratios) == 18
    assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}
    page.context.close()
