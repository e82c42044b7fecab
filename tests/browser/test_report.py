"""The page in headless Chromium: no errors, no requests, nothing wider than the window, theme by keyboard."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from diptych.core.rng import generator
from diptych.core.types import Sample
from diptych.evaluate.material import Material, hash_of
from diptych.evaluate.report import build
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

    def fingerprint(self) -> str:
        return hash_of([self.name])

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
    details = json.loads((folder / "details.json").read_text())
    for section in details["sets"]:
        section["figures"] = [*section.get("figures", []), *every_kind(0.0)]
        section["baseline_figures"] = [*section.get("baseline_figures", []), *every_kind(0.1)]
    (folder / "details.json").write_text(json.dumps(details))
    row = {"model": "new", "set": "other", "protocol": "probe", "what": "w", "why": "<script>alert(2)</script>", "mend": "Mend it"}
    with (folder / "progress.jsonl").open("a") as file:
        file.write(json.dumps({"failed": row}) + "\n")
    return build(folder)


def every_kind(by: float) -> list[dict]:
    """One figure of each kind, and one that has no form."""
    band = {"low": [0.1, 0.2, 0.3], "high": [0.5, 0.6, 0.9]}
    series = [{"name": f"curve {i}", "points": [[0.1, 0.2 + by], [0.5, 0.4], [1, 0.7]], **band} for i in range(7)]
    names = ["a rather long name for a row", "b", "c"]
    return [
        {"kind": "lines", "title": "Reliability", "x": "confidence", "y": "accuracy", "series": series, "diagonal": True, "x_share": True},
        {"kind": "bars", "title": "Bars", "rows": [{"name": n, "value": 0.5 + by, "low": 0.4, "high": 0.7, "chance": 0.1} for n in names]},
        {
            "kind": "heat",
            "title": "Severity",
            "rows": names,
            "columns": list(range(1, 14)),
            "values": [[i / 13 - by for i in range(13)]] * 3,
        },
        {"kind": "slope", "title": "Shift", "left": "known", "right": "new", "series": [{"name": n, "from": 0.8, "to": by} for n in names]},
        {"kind": "pictures", "title": "Surest", "items": [{"picture": None, "text": "x" * 100, "answer": "y", "note": "z"}] * 8},
        {"kind": "cake", "title": "No form"},
    ]


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


# how many of the pictures that the style sheet holds decode
DECODED = """() => Promise.all([...document.styleSheets].flatMap((sheet) => [...sheet.cssRules])
  .filter((rule) => rule.selectorText?.startsWith(".p-"))
  .map(async (rule) => {
    const image = new Image();
    image.src = rule.style.backgroundImage.slice(5, -2);
    await image.decode();
    return image.naturalWidth;
  })).then((all) => all.filter((width) => width > 0).length)"""


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("light", 360)])
def test_renders_without_errors_or_requests(browser, open_watched, page_path, scheme, width):
    page = opened(browser, scheme, width)
    open_watched(page, page_path, width)
    assert page.evaluate(DECODED) >= 20
    assert page.locator("[role=img].thumb").count() > 50
    sections = 4  # two protocols on two sets
    assert page.locator("svg.chart").count() == 2 + sections * 2 * 2
    assert page.locator("table.heat").count() == sections * 2
    assert page.locator("svg[role=img]:not([aria-label])").count() == 0
    assert page.locator(".note", has_text="No form is left out").count() == sections
    assert page.locator("#failed").inner_text().count("<script>alert(2)</script>") == 1
    assert page.locator("#headline .verdict dd:visible").count() == 3
    assert page.locator("h2:visible").count() >= 8
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


def test_paper_shows_every_section_and_no_numbers_twice(browser, page_path):
    page = opened(browser, "dark")
    page.goto(page_path.as_uri())
    closed = page.locator("details:not([open])").count()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("details:not([open], .numbers, .unprinted)").count() == 0
    assert page.locator("details.numbers:visible, details.unprinted:visible").count() == 0
    assert page.locator("table.heat:visible").count() == 8
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() == closed
    page.context.close()


def test_sections_open_by_keyboard_with_a_focus_that_is_seen(browser, page_path):
    page = opened(browser, "light")
    page.goto(page_path.as_uri())
    summary = page.locator("details:not([open], .numbers) > summary").first
    summary.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "2px"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.parentElement.open")
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_numbers_in_heat_cells_have_contrast(browser, page_path, scheme):
    """Every cell's text reaches 4.5 : 1 on the colour that is drawn, weakest to strongest, above and below 0."""
    page = opened(browser, scheme)
    page.goto(page_path.as_uri())
    ratios = page.evaluate(
        """() => {
          const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
          const light = (colour) => {
            pen.fillStyle = colour;
            pen.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3)
              .map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const cells = [...document.querySelectorAll(".heat td.above, .heat td.below")];
          return cells.map((cell) => {
            const style = getComputedStyle(cell);
            const [a, b] = [light(style.color), light(style.backgroundColor)].sort((x, y) => y - x);
            return (a + 0.05) / (b + 0.05);
          });
        }"""
    )
    assert len(ratios) == 8 * 39
    assert min(ratios) >= 4.5
    assert max(ratios) > 1.5 * min(ratios)
    page.context.close()


def test_the_picture_that_the_docs_show(browser, tmp_path):
    """The top of the page of the embedded model's own records. ``DIPTYCH_PICTURE=docs/report.webp`` writes the picture anew."""
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "records.jsonl").write_bytes((files("diptych.models.mini") / "records.jsonl").read_bytes())
    page = opened(browser, "light")
    page.set_viewport_size({"width": 1200, "height": 1300})
    page.goto(build(tmp_path / "mini").as_uri())
    taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    page.context.close()
    colours = taken.getcolors(1 << 20) or []
    assert len(colours) > 100
    assert max(colours)[0] < 0.97 * taken.width * taken.height
    shown = Path(__file__).parents[2] / "docs" / "report.webp"
    if wanted := os.environ.get("DIPTYCH_PICTURE"):
        taken.save(wanted, "WEBP", quality=85, method=6)
    with Image.open(shown) as kept:
        assert kept.size == taken.size
    assert shown.stat().st_size < 150_000
