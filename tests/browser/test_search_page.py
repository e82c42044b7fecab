"""The search page in headless Chromium: type, drop, click, plus and minus, filters, no answer, errors, the server down and back."""

from __future__ import annotations

import base64
import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
if CHROMIUM is None:
    pytest.skip("no chromium on this machine (Debian: apt-get install chromium)", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is in the test extra")
pytest.importorskip("fastapi", reason="fastapi is in the serve extra")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "search"))

from serving_fakes import COLOURS, Colours, Marker, png, running  # noqa: E402

WAIT = 30_000  # milliseconds: what a busy machine may take


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as play:
        made = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def there():
    model = Marker()
    with running(model, Colours(model)) as found:
        yield found


@pytest.fixture
def opened(browser):
    """``opened(address, …)`` opens a page; at the end it has seen no error, and no request to anywhere else."""
    with ExitStack() as stack:

        def one(address: str, failures: bool = False, **options):
            context = stack.enter_context(browser.new_context(**options))
            page = context.new_page()
            page.set_default_timeout(WAIT)
            wrong: list[str] = []
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("console", lambda said: wrong.append(said.text) if said.type == "error" and not failures else None)
            page.on(
                "request",
                lambda asked: wrong.append(asked.url) if not asked.url.startswith((address.split("#")[0], "data:", "blob:")) else None,
            )
            stack.callback(lambda: wrong == [] or pytest.fail(f"{wrong}"))
            page.goto(address)
            return page

        yield one


def captions(page) -> list[str]:
    return page.locator(".card .caption").all_text_contents()


def first(page, words: str) -> None:
    """Wait until the first result says so."""
    sync_api.expect(page.locator(".card .caption").first).to_have_text(words, timeout=WAIT)


def until(page, expression: str) -> None:
    """Wait until an expression holds (the page's policy forbids what Playwright's own waiting does)."""
    end = time.monotonic() + WAIT / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(20)


def blank(page) -> None:
    """Wait for the page without a query."""
    sync_api.expect(page.locator("#empty h2", has_text="Search 10 pictures")).to_be_visible(timeout=WAIT)
    assert page.locator(".card").count() == 0


def drop(page, colour) -> None:
    """Drop a picture of one colour on the page."""
    data = page.evaluate_handle(
        """(text) => {
          const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes], "mine.png", { type: "image/png" }));
          return data;
        }""",
        base64.b64encode(png(colour)).decode(),
    )
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("body", event, {"dataTransfer": data})


def test_it_answers_as_one_types(there, opened):
    page = opened(there.url)
    blank(page)
    page.locator("#words").press_sequentially("something blue", delay=20)
    first(page, "a blue square")
    assert page.locator(".card").count() == 10
    assert page.locator(".card .percent").first.text_content() == "99 %"
    until(page, "document.querySelector('.card img').naturalWidth > 0")
    assert not page.locator("#notice").is_visible()
    assert page.evaluate("location.hash") == "#q=something+blue"


def test_an_old_answer_never_overwrites_a_newer_one(there, opened):
    """The answer to the first query is held back until the second is on the page."""
    page = opened(there.url)
    page.evaluate(
        """() => {
          const real = window.fetch;
          window.fetch = async (path, options) => {
            const answer = await real(path, { ...options, signal: undefined });
            if (String(options?.body).includes("red")) await new Promise((done) => (window.release = done));
            return answer;
          };
        }"""
    )
    page.fill("#words", "red")
    until(page, "Boolean(window.release)")
    page.fill("#words", "green")
    first(page, "a green square")
    page.evaluate("window.release()")
    page.wait_for_timeout(300)
    assert captions(page)[0] == "a green square"


def test_a_dropped_picture_is_a_query_and_can_be_turned_and_removed(there, opened):
    page = opened(there.url)
    drop(page, COLOURS["violet"])
    first(page, "a violet square")
    sync_api.expect(page.locator(".part")).to_have_count(1)
    page.fill("#words", "yellow")
    page.click(".part .sign")
    sync_api.expect(page.locator(".part.away")).to_have_count(1)
    first(page, "a yellow square")
    page.click(".part button:last-child")
    sync_api.expect(page.locator(".part")).to_have_count(0)
    page.fill("#words", "")
    blank(page)


def test_a_file_that_is_no_picture_is_told(there, opened):
    page = opened(there.url)
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "image/png", "buffer": b"no picture"})
    sync_api.expect(page.locator("#notice")).to_contain_text("notes.txt is not a picture")
    page.set_input_files("#file", {"name": "pink.png", "mimeType": "image/png", "buffer": png(COLOURS["pink"])})
    first(page, "a pink square")


def test_a_click_finds_similar_ones_and_back_goes_back(there, opened):
    page = opened(f"{there.url}#q=orange")
    first(page, "a orange square")
    page.locator(".card .open").first.click()
    sync_api.expect(page.locator(".part span")).to_have_text("a orange square")
    first(page, "a yellow square")
    assert page.input_value("#words") == ""
    page.go_back()
    first(page, "a orange square")
    assert page.input_value("#words") == "orange"


def test_plus_and_minus_add_to_the_query(there, opened):
    page = opened(f"{there.url}#q=red+black")
    first(page, "a black square")
    page.locator(".card", has_text="a black square").locator(".minus").click()
    first(page, "a red square")
    page.locator(".card", has_text="a blue square").locator(".plus").click()
    sync_api.expect(page.locator(".part")).to_have_count(2)
    sync_api.expect(page.locator(".part.away")).to_have_count(1)
    page.reload()
    sync_api.expect(page.locator(".part.away span")).to_have_text("a black square")


def test_filters_and_words_asked_away(there, opened):
    page = opened(f"{there.url}#q=red+green+violet")
    page.click("summary")
    assert "year" in page.locator("#columns").text_content()
    page.fill("#where", "year > 2005")
    sync_api.expect(page.locator(".card")).to_have_count(3)
    page.fill("#where", "year > 2099")
    sync_api.expect(page.locator("#empty")).to_contain_text("The filter leaves no picture")
    page.fill("#where", "")
    page.fill("#without", "green")
    sync_api.expect(page.locator(".card .caption").nth(1)).to_have_text("a violet square")


def test_a_wrong_filter_is_told(there, opened):
    page = opened(f"{there.url}#q=red", failures=True)
    page.click("summary")
    page.fill("#where", "colour = 1")
    sync_api.expect(page.locator("#notice")).to_have_text("where: no such column. Did you mean 'year'?")
    page.fill("#where", "")
    first(page, "a red square")
    assert not page.locator("#notice").is_visible()


def test_no_good_match_is_said_plainly(there, opened):
    page = opened(f"{there.url}#q=quantum+chromodynamics")
    sync_api.expect(page.locator("#notice")).to_contain_text("No good match.")
    assert page.locator(".weak .card").count() == 10


def test_right_and_wrong_reach_the_server(there, opened):
    page = opened(f"{there.url}#q=grey")
    first(page, "a grey square")
    page.locator(".card .right").first.click()
    sync_api.expect(page.locator(".card .right").first).to_have_attribute("aria-pressed", "true")
    query, id, right = there.service.index.said[-1]
    assert [query.words, id, right] == [(("grey", 1.0),), there.service.index.id_of["grey"], True]


def test_the_large_view_has_the_data_and_a_place_for_explanations(there, opened):
    page = opened(f"{there.url}#q=brown")
    first(page, "a brown square")
    page.locator(".card .details").first.click()
    assert page.locator("#view-title").text_content() == "a brown square"
    assert "2005" in page.locator("#facts").text_content()
    until(page, "document.getElementById('view-image').naturalWidth === 400")
    assert page.locator(".stage #heat").count() == 1
    assert not page.locator("#explain").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#view").is_visible()
    assert page.input_value("#words") == "brown", "Escape closes the view only"


def test_everything_by_keyboard(there, opened):
    page = opened(there.url)
    page.keyboard.press("Tab")
    page.locator("body").press("/")
    page.keyboard.type("pink")
    first(page, "a pink square")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.ariaLabel") == "Find similar: a pink square"
    page.keyboard.press("ArrowRight")
    second = page.evaluate("document.activeElement.ariaLabel")
    assert second != "Find similar: a pink square"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("-")
    sync_api.expect(page.locator(".part.away")).to_have_count(1)
    page.keyboard.press("Escape")
    blank(page)
    assert page.evaluate("document.activeElement.id") == "words"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390), ("light", 320)])
def test_it_fits_in_light_and_dark(there, opened, scheme, width):
    page = opened(f"{there.url}#q=red&without=blue", viewport={"width": width, "height": 800}, color_scheme=scheme)
    first(page, "a red square")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 21, 20)"
    assert dark == (scheme == "dark")
    small = page.evaluate(
        """() => [...document.querySelectorAll("button")].filter((b) => b.offsetParent)
          .filter((b) => b.getBoundingClientRect().width < 24 || b.getBoundingClientRect().height < 24).length"""
    )
    assert small == 0, "targets of at least 24 px (WCAG 2.2, 2.5.8)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_on_the_page_has_contrast(there, opened, scheme):
    """Every colour that text is set in reaches 4.5 : 1 on paper and on cards (WCAG 2.2, 1.4.3)."""
    page = opened(there.url, color_scheme=scheme)
    ratios = page.evaluate(
        """() => {
          const style = getComputedStyle(document.documentElement);
          const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
          const light = (name) => {
            const hex = style.getPropertyValue(name).trim().slice(1);
            const part = [0, 2, 4].map((i) => linear(parseInt(hex.slice(i, i + 2), 16) / 255));
            return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
          };
          const ratio = (ink, ground) => {
            const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
            return (a + 0.05) / (b + 0.05);
          };
          const found = { button: ratio("--on-accent", "--accent") };
          for (const ink of ["--ink", "--soft", "--accent", "--chance", "--bad", "--good"])
            for (const ground of ["--paper", "--card"]) found[`${ink} on ${ground}`] = ratio(ink, ground);
          return found;
        }"""
    )
    assert len(ratios) == 13
    assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}


def test_a_busy_server_is_asked_again(there, opened):
    page = opened(there.url, failures=True)
    refusals = iter([429, 503])

    def answer(route):
        status = next(refusals, None)
        route.continue_() if status is None else route.fulfill(status=status, headers={"Retry-After": "1"}, json={"error": {}})

    page.route("**/search", answer)
    page.fill("#words", "green")
    sync_api.expect(page.locator("#notice")).to_contain_text("The server is busy")
    first(page, "a green square")
    assert not page.locator("#notice").is_visible()


def test_the_server_goes_down_and_comes_back(opened):
    model = Marker()
    with running(model, Colours(model)) as there:
        page = opened(f"{there.url}#q=red", failures=True)
        first(page, "a red square")
    page.fill("#words", "green")
    sync_api.expect(page.locator("#notice")).to_contain_text("The server does not answer.")
    with running(model, Colours(model), port=there.port):
        first(page, "a green square")
        assert not page.locator("#notice").is_visible()


def test_a_token_is_asked_for_and_opens_the_page(opened):
    model = Marker()
    with running(model, Colours(model), token="open-the-pictures") as there:
        page = opened(f"{there.url}#q=red", failures=True)
        page.fill("#token", "wrong-wrong-wrong")
        page.keyboard.press("Enter")
        until(page, "document.getElementById('token').value === '' && document.getElementById('ask').open")
        page.fill("#token", "open-the-pictures")
        page.keyboard.press("Enter")
        first(page, "a red square")
        until(page, "document.querySelector('.card img').naturalWidth > 0")


def test_words_of_the_index_are_never_markup(opened):
    model = Marker()
    index = Colours(model)
    row = index.row
    index.row = lambda id: {**row(id), "caption": "a red <img src=x onerror=alert(1)>"}
    index.picture = lambda id: png((1, 2, 3))
    index.search = lambda *_: __import__("diptych.search.query", fromlist=["Answer"]).Answer(True, (Colours._hit(index, "red", 0.9),), 1)
    with running(model, index) as there:
        page = opened(f"{there.url}#q=red")
        first(page, "a red <img src=x onerror=alert(1)>")
        assert page.locator(".caption img").count() == 0


def test_without_an_index_the_page_says_so(opened):
    with running() as there:
        page = opened(there.url)
        sync_api.expect(page.locator("#empty h2")).to_have_text("This server has a model and no index")
