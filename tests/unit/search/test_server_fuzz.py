"""Malformed requests: 4xx in the one form, never 5xx, never a hang, never a file from outside the index."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter

import httpx
import pytest
from serving_fakes import COLOURS, Colours, Marker, data_url, png, running
from test_server import JSON, bomb

from diptych.search.serving.limits import Limits

PICTURE = data_url(png((10, 200, 30)))
ID = Colours(None).id_of["red"]
WHOLE = {
    "/embed/text": {"texts": ["a red apple", "two"]},
    "/embed/image": {"images": [PICTURE]},
    "/classify": {"images": [PICTURE], "labels": ["cat", "dog"], "templates": ["a {}"], "none_below": 0.2, "top": 2},
    "/search": {
        "words": [{"text": "red", "weight": 1.0}], "images": [{"image": PICTURE}], "like": [{"id": ID, "weight": -0.5}],
        "k": 3, "where": "year > 2000", "diverse": 0.5, "group_duplicates": True,
    },
    "/feedback": {"query": {"words": [{"text": "red"}]}, "id": ID, "right": True},
    "/v1/embeddings": {"model": "marker", "input": ["a", PICTURE], "encoding_format": "float", "dimensions": 8},
}  # fmt: skip
STRANGE = [
    None, True, -1, 0, 1e308, 10**30, 0.5, "", " ", "\0", "../../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "C:\\win.ini",
    "http://127.0.0.1:1/", "data:image/png;base64,", "data:image/svg+xml;base64,PHN2Zy8+", "data:image/png;base64," + "A" * 5000, "'; --",
    "year > (((", "year > " + "9" * 400, "\u202e\u0000\uffff", "𝔘" * 3000, "x" * 100_000, [], {}, [[]], [{}], [None] * 300, {"a": {}},
    [[[[[[[[[[1]]]]]]]]]], "%s%n{0.__class__}", "🍎", {"$ref": "#"}, "0" * 16, "g" * 16, "NaN", float("inf"), float("nan"),
]  # fmt: skip
RAW = [
    b"", b"{", b"[]", b"null", b"0", b'""', b"\xff\xfe\x00", b"{}" * 50, b"[" * 50_000, b'{"a":' * 2000, b'{"texts": ["\\ud800"]}',
    b'{"texts":["a"],"texts":["b"]}', b"\xef\xbb\xbf{}", b'{"texts": ["a"]}}', b"1e999999", b"-", b'{"texts": [1' + b"0" * 10_000 + b"]}",
    b"PK\x03\x04" + b"\0" * 200, b"GIF89a" + b"\xff" * 100, b"\x1f\x8b\x08\x00" + b"\0" * 50, b"--x\r\nContent-Disposition: form-data\r\n",
]  # fmt: skip
TYPES = ["application/json", "application/json; charset=utf-16", "text/plain", "image/png", "image/jpeg", "multipart/form-data; boundary=x",
         "application/x-www-form-urlencoded", "", "application/octet-stream", "image/svg+xml", "a/b/c"]  # fmt: skip
PATHS = [
    "/pictures/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/pictures/..", "/pictures//etc/passwd", "/pictures/%00", f"/pictures/{ID}/../../x",
    "/pictures/" + "a" * 4000, f"/pictures/{ID}?size=-1", f"/pictures/{ID}?size=320&size=9", f"/pictures/{ID}?size=%00",
    "/static/app.js", "/app.js/..", "//app.js", "/%2fapp.js", "/..%2fserver.py", "/openapi.json/../x", "/search?k=1", "/embed/text/",
    "/\\..\\..\\x", "/docs", "/redoc",
]  # fmt: skip


def places(value, at=()):
    """Every place in a JSON value."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


def bent(form, draw: random.Random):
    """A copy of a whole form with one to three places made strange: replaced, removed, doubled or renamed."""
    made = {"form": copy.deepcopy(form)}
    for _ in range(draw.choice((1, 1, 2, 3))):
        *way, last = draw.choice([at for at in places(made) if at])
        inside = made
        for key in way:
            inside = inside[key]
        turn = draw.randrange(5)
        if turn == 0 and isinstance(inside, dict) and len(way) > 0:
            inside[draw.choice(["path", "__proto__", str(last).upper(), ""])] = inside.pop(last)
        elif turn == 1 and len(way) > 0:
            del inside[last]
        elif turn == 2 and isinstance(inside, list):
            inside.extend([copy.deepcopy(inside[last])] * draw.choice((1, 300)))
        else:
            inside[last] = copy.deepcopy(draw.choice(STRANGE))
    return made.get("form")


def torn(raw: bytes, draw: random.Random) -> bytes:
    """Bytes cut off, flipped, doubled or with others in between."""
    turn, at = draw.randrange(4), draw.randrange(len(raw) + 1)
    if turn == 0:
        return raw[:at]
    if turn == 1:
        return bytes(byte ^ (1 << draw.randrange(8)) if draw.random() < 0.02 else byte for byte in raw)
    if turn == 2:
        return raw[:at] + draw.randbytes(draw.choice((1, 100))) + raw[at:]
    return raw[:at] * 2


def requests(count: int, seed: int):
    """Method, path, body and content type."""
    draw = random.Random(seed)
    pictures = [png((9, 9, 9)), png((1, 2, 3), (64, 64)), bomb()]
    for _ in range(count):
        turn, path = draw.randrange(10), draw.choice(list(WHOLE))
        if turn < 5:
            yield "POST", path, json.dumps(bent(WHOLE[path], draw)).encode(), "application/json"
        elif turn < 6:
            yield "POST", path, torn(json.dumps(WHOLE[path]).encode(), draw), "application/json"
        elif turn < 7:
            yield "POST", path, draw.choice(RAW), draw.choice(TYPES)
        elif turn < 9:
            yield "POST", "/embed/image", torn(draw.choice(pictures), draw), draw.choice(TYPES[3:5])
        else:
            yield draw.choice(["GET", "POST", "HEAD", "DELETE", "OPTIONS"]), draw.choice(PATHS), b"", draw.choice(TYPES)


def thrown(count: int, seed: int) -> Counter:
    """Statuses of so many malformed requests to one server; each within 20 s, each refusal in the one form."""
    seen: Counter = Counter()
    model = Marker()
    with running(model, Colours(model), Limits(body_bytes=1 << 18, pixels=1 << 20)) as there:
        with httpx.Client(base_url=there.url, timeout=20) as client:
            for method, path, body, kind in requests(count, seed):
                answer = client.request(method, there.url + path, content=body, headers={"Content-Type": kind})
                assert answer.status_code < 500, (method, path, body[:200], kind, answer.text)
                assert b"root:" not in answer.content
                if answer.status_code >= 400 and method != "HEAD":
                    assert {"what", "why", "mend"} <= set(answer.json()["error"]), (method, path, body[:200], answer.text)
                seen[answer.status_code] += 1
            assert client.post("/embed/text", json={"texts": ["still there"]}).status_code == 200
        assert there.service.batcher.waiting == 0
    return seen


def test_hundreds_of_malformed_requests():
    seen = thrown(400, 1)
    assert {400, 404, 405, 415, 422} <= set(seen)
    assert sum(count for status, count in seen.items() if status >= 400) > 250


@pytest.mark.slow
def test_five_thousand_malformed_requests(capsys):
    seen = thrown(5000, 2)
    assert not [status for status in seen if status >= 500]
    with capsys.disabled():
        print(f"\n5,000 malformed requests: {dict(sorted(seen.items()))}")


@pytest.mark.slow
def test_requests_made_from_the_schema(capsys):
    """Schemathesis: bodies that follow the schema, and bodies that break it, for every operation."""
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is in the test extra")
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.errors import Unsatisfiable

    seen: Counter = Counter()
    model = Marker()
    with running(model, Colours(model), Limits(body_bytes=1 << 18)) as there:
        schema = schemathesis.openapi.from_url(f"{there.url}/openapi.json")
        for operation in [found.ok() for found in schema.get_all_operations()]:
            for mode in schemathesis.GenerationMode:

                @settings(
                    max_examples=60,
                    deadline=None,
                    derandomize=True,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(case=operation.as_strategy(generation_mode=mode))
                def one(case):
                    answer = case.call(timeout=20)
                    assert answer.status_code < 500, (case.body, answer.text)
                    seen[answer.status_code] += 1

                try:
                    one()
                except Unsatisfiable:  # nothing can be wrong about an operation that takes nothing
                    seen["nothing to vary"] += 1
    with capsys.disabled():
        print(f"\n{sum(seen.values()):,} requests from the schema: {dict(seen)}")
    assert seen[200] > 50
    assert seen[422] > 100


def test_a_plain_request_is_among_them():
    """The generator bends what would be answered: unbent, every form is a 200."""
    model = Marker()
    with running(model, Colours(model)) as there, httpx.Client(base_url=there.url) as client:
        for path, form in WHOLE.items():
            assert client.post(path, content=json.dumps(form), headers=JSON).status_code == 200, path
    assert set(COLOURS) == set(Colours(None).names)
