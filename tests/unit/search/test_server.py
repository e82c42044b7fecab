"""The server's addresses, one by one: what they answer, what they refuse and in which words, and what never leaves."""

from __future__ import annotations

import base64
import http.client
import io
import json
import re
import socket
import struct
import threading
import time
import zlib
from collections import Counter

import httpx
import numpy as np
import pytest
from PIL import Image
from serving_fakes import COLOURS, Colours, Marker, colour_row, data_url, png, running, text_row

from diptych.cli.serve import read_token
from diptych.core.errors import DiptychError
from diptych.search import server
from diptych.search.query import Answer
from diptych.search.serving import guard
from diptych.search.serving import run as server_run
from diptych.search.serving.limits import Limits
from diptych.search.serving.run import bound, is_loopback
from diptych.search.where import OWN

JSON = {"Content-Type": "application/json"}
RED = png((200, 30, 30))


@pytest.fixture(scope="module")
def there():
    model = Marker()
    with running(model, Colours(model), Limits(body_bytes=1 << 16, pixels=10_000)) as found:
        yield found


@pytest.fixture
def ask(there):
    with httpx.Client(base_url=there.url) as client:
        yield client


def told(answer: httpx.Response) -> dict[str, str]:
    """The error of an answer, checked to have the one form."""
    error = answer.json()["error"]
    assert {"what", "why", "mend"} <= set(error)
    assert all(error.values())
    return error


def test_rows_of_texts_are_the_models_own(ask):
    texts = ["a red apple", "ein roter Apfel", "🍎", "x" * 4096]
    answer = ask.post("/embed/text", json={"texts": texts}).json()
    assert (answer["model"], answer["dim"]) == ("marker", 8)
    np.testing.assert_allclose(answer["rows"], [text_row(text) for text in texts], atol=6e-8)


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg", "application/octet-stream"])
def test_a_picture_goes_in_as_bytes_whatever_it_is_called(ask, kind):
    answer = ask.post("/embed/image", content=RED, headers={"Content-Type": kind})
    np.testing.assert_allclose(answer.json()["rows"], [colour_row((200, 30, 30))], atol=6e-8)


def test_pictures_go_in_as_data_urls(ask):
    urls = [data_url(png(colour)) for colour in COLOURS.values()]
    rows = ask.post("/embed/image", json={"images": urls}).json()["rows"]
    np.testing.assert_allclose(rows, [colour_row(colour) for colour in COLOURS.values()], atol=6e-8)


def test_classify_is_a_softmax_over_the_labels(ask):
    """The formula of the classifier in numpy: unit mean of the label's rows over the templates, scale 10."""
    form = {"images": [data_url(RED)], "labels": ["red", "green", "blue"], "templates": ["a {}", "one {}!"], "top": 2}
    answer = ask.post("/classify", json=form).json()
    rows = np.stack([text_row(f"a {name}") + text_row(f"one {name}!") for name in form["labels"]]).astype(np.float64)
    logits = 10 * (rows / np.linalg.norm(rows, axis=1, keepdims=True)) @ colour_row((200, 30, 30)).astype(np.float64)
    chances = np.exp(logits) / np.exp(logits).sum()
    best = np.argsort(-chances)[:2]
    (found,) = answer["results"]
    assert [item["label"] for item in found["top"]] == [form["labels"][at] for at in best] == [found["label"], found["top"][1]["label"]]
    np.testing.assert_allclose([item["probability"] for item in found["top"]], chances[best], atol=2e-6)
    none = ask.post("/classify", json={**form, "none_below": 0.99}).json()["results"][0]
    assert none["label"] is None
    assert none["probability"] == found["probability"]


def test_openais_form_in_floats_and_in_base64(ask):
    asked = ["two words", data_url(RED), {"type": "image_url", "image_url": {"url": data_url(png((1, 2, 3)))}}, "three more words"]
    wanted = [text_row("two words"), colour_row((200, 30, 30)), colour_row((1, 2, 3)), text_row("three more words")]
    plain = ask.post("/v1/embeddings", json={"model": "marker", "input": asked}).json()
    packed = ask.post("/v1/embeddings", json={"model": "marker", "input": asked, "encoding_format": "base64", "dimensions": 8}).json()
    assert [plain["object"], plain["model"], plain["usage"]] == ["list", "marker", {"prompt_tokens": 5, "total_tokens": 5}]
    assert [(item["object"], item["index"]) for item in plain["data"]] == [("embedding", at) for at in range(4)]
    np.testing.assert_allclose([item["embedding"] for item in plain["data"]], wanted, atol=6e-8)
    unpacked = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in packed["data"]]
    np.testing.assert_array_equal(unpacked, wanted)
    one = ask.post("/v1/embeddings", json={"model": "marker", "input": "two words"}).json()
    assert one["data"] == plain["data"][:1]
    assert ask.get("/v1/models").json()["data"][0]["id"] == "marker"
    error = told(ask.post("/v1/embeddings", json={"model": "other", "input": "x"}))
    assert {"message", "type"} <= set(error)


def test_search_by_words_pictures_and_ids(there, ask):
    index = there.service.index
    found = ask.post("/search", json={"words": [{"text": "something red"}], "k": 3}).json()
    assert [found["answer"], len(found["results"]), found["searched"]] == [True, 3, 10]
    first = found["results"][0]
    assert [first["caption"], first["name"], first["id"]] == ["a red square", "red.png", index.id_of["red"]]
    assert "secret" not in json.dumps(found), "where a picture lies stays with the server"
    blue = ask.post("/search", json={"images": [{"image": data_url(png(COLOURS["blue"]))}], "k": 1}).json()
    assert blue["results"][0]["caption"] == "a blue square"
    like = ask.post("/search", json={"like": [{"id": index.id_of["orange"]}], "k": 1, "where": "year > 2005"}).json()
    assert like["results"][0]["caption"] == "a yellow square"
    both = ask.post("/search", json={"words": [{"text": "red blue"}, {"text": "red", "weight": -1}], "k": 1}).json()
    assert both["results"][0]["caption"] == "a blue square"
    assert ask.post("/search", json={"words": [{"text": "nothing"}]}).json()["answer"] is False


def test_feedback_reaches_the_index(there, ask):
    index = there.service.index
    form = {"query": {"words": [{"text": "red"}]}, "id": index.id_of["red"], "right": True}
    assert ask.post("/feedback", json=form).json() == {"noted": True}
    query, id, right = index.said[-1]
    assert [query.words, id, right] == [(("red", 1.0),), index.id_of["red"], True]
    assert ask.post("/feedback", json={**form, "id": "0" * 16}).status_code == 404


def test_pictures_come_small_and_written_anew(there, ask):
    id = there.service.index.id_of["violet"]
    pictures = there.service.limits.pixels
    with running(index=Colours(Marker())) as other:
        answer = httpx.get(f"{other.url}/pictures/{id}")
        image = Image.open(io.BytesIO(answer.content))
        assert [answer.headers["content-type"], image.format, image.size] == ["image/jpeg", "JPEG", (320, 240)]
        np.testing.assert_allclose(np.asarray(image).reshape(-1, 3).mean(0), COLOURS["violet"], atol=3)
        assert Image.open(io.BytesIO(httpx.get(f"{other.url}/pictures/{id}?size=1280").content)).size == (400, 300)
        assert httpx.get(f"{other.url}/pictures/{id}").content == answer.content
    assert pictures < 400 * 300
    assert ask.get(f"/pictures/{id}").status_code == 404, "a picture over the limit is not decoded"


def bomb() -> bytes:
    """A PNG whose header says 60,000 × 60,000."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


WRONG = {
    "no such address": ("POST", "/nope", b"", JSON, 404),
    "a path in an address": ("GET", "/pictures/..%2f..%2fetc%2fpasswd", b"", {}, 404),
    "a path for an id": ("GET", "/pictures/%2e%2e", b"", {}, 404),
    "an id that is not there": ("GET", "/pictures/0000000000000000", b"", {}, 404),
    "a path in a page's address": ("GET", "/page/../server.py", b"", {}, 404),
    "a size of one's own": ("GET", "/pictures/0000000000000000?size=9999999", b"", {}, 422),
    "the wrong method": ("GET", "/search", b"", {}, 405),
    "no content type": ("POST", "/search", b"{}", {}, 415),
    "a form as a web page could send it from elsewhere": ("POST", "/feedback", b"a=b", {"Content-Type": "text/plain"}, 415),
    "nothing": ("POST", "/embed/text", b"", JSON, 400),
    "half of it": ("POST", "/embed/text", b'{"texts": ["a', JSON, 400),
    "no UTF-8": ("POST", "/embed/text", b'{"texts": ["\xff\xfe"]}', JSON, 400),
    "half a character": ("POST", "/embed/text", b'{"texts": ["\\ud800"]}', JSON, 400),
    "ten thousand brackets": ("POST", "/embed/text", b"[" * 10_000, JSON, 400),
    "a list": ("POST", "/embed/text", b"[]", JSON, 422),
    "another key": ("POST", "/embed/text", b'{"texts": ["a"], "path": "/etc/passwd"}', JSON, 422),
    "an empty list": ("POST", "/embed/text", b'{"texts": []}', JSON, 422),
    "an empty text": ("POST", "/embed/text", b'{"texts": [" "]}', JSON, 422),
    "a number": ("POST", "/embed/text", b'{"texts": [5]}', JSON, 422),
    "a long text": ("POST", "/embed/text", json.dumps({"texts": ["x" * 4097]}).encode(), JSON, 422),
    "too many texts": ("POST", "/embed/text", json.dumps({"texts": ["x"] * 257}).encode(), JSON, 422),
    "an endless number": ("POST", "/search", b'{"words": [{"text": "a", "weight": 1e999}]}', JSON, 422),
    "no number": ("POST", "/search", b'{"words": [{"text": "a", "weight": NaN}]}', JSON, 422),
    "a weight of 0": ("POST", "/search", b'{"words": [{"text": "a", "weight": 0}]}', JSON, 422),
    "a query of nothing": ("POST", "/search", b"{}", JSON, 422),
    "a query of refusals": ("POST", "/search", b'{"words": [{"text": "a", "weight": -1}]}', JSON, 422),
    "k of 0": ("POST", "/search", b'{"words": [{"text": "a"}], "k": 0}', JSON, 422),
    "k as text": ("POST", "/search", b'{"words": [{"text": "a"}], "k": "5"}', JSON, 422),
    "a filter over where pictures lie": ("POST", "/search", b'{"words": [{"text": "a"}], "where": "path contains \\"home\\""}', JSON, 422),
    "a filter over no column": ("POST", "/search", b'{"words": [{"text": "a"}], "where": "x = 1"}', JSON, 422),
    "an id that is a path": ("POST", "/search", b'{"like": [{"id": "../../../etc/passwd"}]}', JSON, 422),
    "an id that nothing has": ("POST", "/search", b'{"like": [{"id": "0123456789abcdef"}]}', JSON, 404),
    "an address for a picture": ("POST", "/embed/image", b'{"images": ["http://127.0.0.1:1/picture.png"]}', JSON, 422),
    "a file for a picture": ("POST", "/embed/image", b'{"images": ["file:///etc/passwd-and-more"]}', JSON, 422),
    "no base64": ("POST", "/embed/image", b'{"images": ["data:image/png;base64,!!!!!!!!"]}', JSON, 422),
    "text for a picture": ("POST", "/embed/image", b"plain words", {"Content-Type": "image/png"}, 422),
    "no picture at all": ("POST", "/embed/image", b"", {"Content-Type": "image/png"}, 422),
    "a drawing in code": ("POST", "/embed/image", b"<svg xmlns='http://www.w3.org/2000/svg'/>", {"Content-Type": "image/svg+xml"}, 415),
    "half a picture": ("POST", "/embed/image", RED[:40], {"Content-Type": "image/png"}, 422),
    "a bomb": ("POST", "/embed/image", bomb(), {"Content-Type": "image/png"}, 422),
    "more pixels than allowed": ("POST", "/embed/image", png((1, 1, 1), (101, 100)), {"Content-Type": "image/png"}, 422),
    "a large body": ("POST", "/embed/image", b"x" * (1 << 16) + b"x", {"Content-Type": "image/png"}, 413),
    "a label twice": ("POST", "/classify", json.dumps({"images": [data_url(RED)], "labels": ["a", "a"]}).encode(), JSON, 422),
    "a template without a place": (
        "POST", "/classify", json.dumps({"images": [data_url(RED)], "labels": ["a"], "templates": ["x"]}).encode(), JSON, 422,
    ),
    "another model": ("POST", "/v1/embeddings", b'{"model": "gpt", "input": "a"}', JSON, 404),
    "tokens for texts": ("POST", "/v1/embeddings", b'{"model": "marker", "input": [[1, 2]]}', JSON, 422),
    "other dimensions": ("POST", "/v1/embeddings", b'{"model": "marker", "input": "a", "dimensions": 4}', JSON, 422),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_in_the_one_form(there, name):
    method, path, body, headers, status = WRONG[name]
    line = http.client.HTTPConnection("127.0.0.1", there.port, timeout=20)
    line.request(method, path, body, headers)  # http.client leaves .. in a path as it is
    answer = line.getresponse()
    error = json.loads(answer.read())["error"]
    line.close()
    assert answer.status == status, error
    assert {"what", "why", "mend"} <= set(error)
    assert "/secret" not in json.dumps(error)


@pytest.mark.parametrize(
    ("body", "what", "why"),
    [
        ({"word": []}, "word", "there is no such key"),
        ({"words": [{"text": " "}]}, "words.0.text", "the text is empty"),
        (
            {"images": [{"image": "http://x/y.png"}]},
            "images.0.image",
            "a picture is given as data:image/png;base64,…; addresses are not fetched",
        ),
        ({"words": [{"text": "a"}], "where": "path contains 'a'"}, "where: path contains 'a'", "the server does not filter by path"),
    ],
)
def test_a_refusal_says_what_is_wrong_in_plain_words(ask, body, what, why):
    error = ask.post("/search", json=body).json()["error"]
    assert (error["what"], error["why"]) == (what, why)


def test_the_columns_that_filters_may_use_are_told(ask):
    columns = ask.get("/about").json()["columns"]
    assert sorted(columns) == ["caption", "label", "size", "year"], "the year is a column of the data here, and is told once"
    assert set(columns) <= {*OWN, "year"}


def test_an_endless_body_is_not_read_beyond_the_limit(there, monkeypatch):
    monkeypatch.setattr(guard, "DRAIN_SECONDS", 0.2)
    sent, most = 0, 0
    with socket.create_connection(("127.0.0.1", there.port)) as line:
        line.sendall(b"POST /embed/image HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n")
        metrics = httpx.Client(base_url=there.url)
        line.settimeout(0.001)
        answer = b""
        while not answer and sent < 1 << 22:
            line.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            sent += 4096
            most = max(most, held(metrics))
            try:
                answer = line.recv(65536)
            except TimeoutError:
                continue
        metrics.close()
    assert answer.startswith(b"HTTP/1.1 413")
    assert 0 < most <= (1 << 16) + 65536, "the limit, and one read of the socket"
    with httpx.Client(base_url=there.url) as client:
        assert held(client) == 0


def held(client: httpx.Client) -> int:
    return int(re.search(r"^diptych_held_bytes (\d+)", client.get("/metrics").text, re.M).group(1))


def test_a_body_that_does_not_come_is_given_up():
    with running(limits=Limits(body_seconds=0.3)) as there, socket.create_connection(("127.0.0.1", there.port), 20) as line:
        line.sendall(b"POST /embed/text HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{")
        assert line.recv(65536).startswith(b"HTTP/1.1 408")


def test_a_head_that_drips_is_cut_off(monkeypatch):
    monkeypatch.setattr(server_run, "HEAD_SECONDS", 0.3)
    with running() as there, socket.create_connection(("127.0.0.1", there.port), 20) as line:
        line.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        assert line.recv(100) == b""


def test_a_slow_answer_is_given_up_and_its_items_leave_the_queue():
    model = Marker()
    model.open.clear()
    with running(model, limits=Limits(seconds=0.4)) as there:
        answers = [httpx.post(f"{there.url}/embed/text", json={"texts": [str(at)]}, timeout=20) for at in range(2)]
        assert [answer.status_code for answer in answers] == [503, 503]
        assert "0.4 s" in told(answers[0])["why"]
        model.open.set()


def test_a_full_queue_is_429_with_retry_after():
    model = Marker()
    model.open.clear()
    answers = []
    with running(model, limits=Limits(batch=1, queue=2)) as there:

        def post(at):
            answers.append(httpx.post(f"{there.url}/embed/text", json={"texts": [str(at)]}, timeout=20))

        clients = [threading.Thread(target=post, args=(at,)) for at in range(6)]
        for client in clients:
            client.start()
        while len(answers) < 3:
            time.sleep(0.01)
        model.open.set()
        for client in clients:
            client.join(20)
    assert Counter(answer.status_code for answer in answers) == {200: 3, 429: 3}
    refused = [answer for answer in answers if answer.status_code == 429]
    assert all(int(answer.headers["Retry-After"]) >= 1 and told(answer)["why"] for answer in refused)


def test_stopping_answers_what_was_accepted():
    model = Marker()
    model.open.clear()
    answers = []
    with running(model) as there:

        def post(at):
            answers.append(httpx.post(f"{there.url}/embed/text", json={"texts": [str(at)]}, timeout=20))

        clients = [threading.Thread(target=post, args=(at,)) for at in range(5)]
        for client in clients:
            client.start()
        while there.service.batcher.waiting < 4:
            time.sleep(0.01)
        there.stop()
        time.sleep(0.3)
        model.open.set()
        for client in clients:
            client.join(20)
    assert [answer.status_code for answer in answers] == [200] * 5
    with pytest.raises(httpx.ConnectError):
        httpx.get(there.url)


def test_the_token_opens_everything_but_the_page():
    with running(index=Colours(Marker()), token="a-token-of-length") as there, httpx.Client(base_url=there.url) as ask:
        for path in ("/", "/app.js", "/style.css", "/icon.svg", "/healthz"):
            assert ask.get(path).status_code == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer"}, {"Authorization": "Basic a-token-of-length"}):
            for path in ("/metrics", "/about", "/openapi.json", "/nope", "/pictures/0000000000000000"):
                answer = ask.get(path, headers=headers)
                assert answer.status_code == 401
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert told(answer)["what"] == "token"
        right = {"Authorization": "Bearer a-token-of-length"}
        assert ask.get("/about", headers=right).json()["pictures"] == 10
        assert ask.post("/embed/text", json={"texts": ["a"]}, headers=right).status_code == 200
        assert ask.get("/about", headers={"Authorization": b"Bearer \xe9"}).status_code == 401


def test_another_host_name_is_refused_on_loopback(ask, there):
    """A web page whose name was made to point here (DNS rebinding) reaches nothing."""
    assert ask.get("/about", headers={"Host": "pictures.example"}).status_code == 421
    for name in ("localhost", f"127.0.0.1:{there.port}", "[::1]:8000"):
        assert ask.get("/about", headers={"Host": name}).status_code == 200


def test_every_answer_has_the_headers_that_keep_a_page_safe(ask):
    for path in ("/", "/app.js", "/about", "/nope"):
        headers = ask.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers


def test_the_counts_are_those_of_the_requests():
    with running() as there, httpx.Client(base_url=there.url) as ask:
        for at in range(3):
            ask.post("/embed/text", json={"texts": ["a"] * (at + 1)})
        ask.post("/embed/text", content=b"{", headers=JSON)
        ask.get('/pictures/../../etc/passwd"} 5')
        lines = dict(line.rsplit(" ", 1) for line in ask.get("/metrics").text.splitlines() if not line.startswith("#"))
    assert lines['diptych_requests_total{method="POST",path="/embed/text",status="200"}'] == "3"
    assert lines['diptych_requests_total{method="POST",path="/embed/text",status="400"}'] == "1"
    assert lines['diptych_request_seconds_count{path="/embed/text"}'] == "4"
    assert lines['diptych_request_seconds_bucket{path="/embed/text",le="+Inf"}'] == "4"
    assert lines['diptych_batch_items_sum{kind="text"}'] == "6.000000"
    assert not any("passwd" in line for line in lines), "what a caller makes up never becomes a label"


def test_an_index_that_changed_is_taken_over_and_a_lost_one_stays(monkeypatch, caplog):
    monkeypatch.setattr(server, "RENEW_SECONDS", 0.02)
    index = Colours(Marker())
    with running(index=index) as there:
        while index.refreshed < 3:
            time.sleep(0.01)

        def lost():
            index.refreshed = 0
            raise DiptychError("index x", "it is gone", "Open it again")

        monkeypatch.setattr(index, "refresh", lost)
        while index.refreshed or "it is gone" not in caplog.text:
            time.sleep(0.01)
        assert httpx.post(f"{there.url}/search", json={"words": [{"text": "red"}]}).status_code == 200


def test_words_of_the_corpus_are_asked_in_english_over_http_too():
    model, rows = Marker(), []
    index = Colours(model)
    index.search = lambda query, *rest: rows.append(rest[-1]) or Answer(False, (), 10)
    with running(model, index) as there:
        assert httpx.post(f"{there.url}/search", json={"words": [{"text": "cavallo"}]}).status_code == 200
    np.testing.assert_array_equal(rows[0], [text_row("horse")])


def test_without_an_index_there_is_no_search():
    with running() as there:
        assert httpx.post(f"{there.url}/search", json={"words": [{"text": "a"}]}).status_code == 404
        assert httpx.get(f"{there.url}/about").json()["pictures"] is None


def test_the_schema_names_every_form(ask):
    schema = ask.get("/openapi.json").json()
    wanted = {"Texts", "Images", "Classify", "Embeddings", "Search", "Feedback", "Error"}
    assert wanted <= set(schema["components"]["schemas"])
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(schema)))
    assert references <= set(schema["components"]["schemas"])


def test_addresses():
    assert [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org")] == [False] * 4
    with bound("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(DiptychError, match="cannot be bound"):
            bound("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize("text", ["", "short", "has a space in it yes", "ünïcödé-ünïcödé-ünïcödé"])
def test_a_poor_token_is_refused(tmp_path, text):
    file = tmp_path / "token"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DiptychError, match="token"):
        read_token(file)
    with pytest.raises(DiptychError, match="cannot be read"):
        read_token(tmp_path / "none")
    file.write_text("0123456789abcdef\n")
    assert read_token(file) == "0123456789abcdef"
