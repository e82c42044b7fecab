"""Many clients at once: each answer belongs to its own request, nothing but 429 is refused, memory stays flat."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from serving_fakes import Colours, Line, Marker, as_json, colour_row, data_url, png, running, text_row

from diptych.search.serving.limits import Limits


def asks(client: int, turn: int):
    """A request of one client: path, body, and the check of its answer."""
    kind = (client + turn) % 4
    if kind == 0:
        texts = [f"client {client} turn {turn} text {at}" for at in range(1 + turn % 3)]
        return "/embed/text", as_json({"texts": texts}), lambda got: close(got["rows"], [text_row(text) for text in texts])
    colours = [((client * 7 + at) % 256, (turn * 13) % 256, (client + turn) % 256) for at in range(1 + turn % 2)]
    if kind == 1:
        body = as_json({"images": [data_url(png(colour)) for colour in colours]})
        return "/embed/image", body, lambda got: close(got["rows"], [colour_row(colour) for colour in colours])
    if kind == 2:
        body = as_json({"model": "marker", "input": [f"{client} {turn}", data_url(png(colours[0]))]})
        wanted = [text_row(f"{client} {turn}"), colour_row(colours[0])]
        return "/v1/embeddings", body, lambda got: close([item["embedding"] for item in got["data"]], wanted)
    name = list(Colours(None).names)[(client + turn // 4) % 10]
    body = as_json({"words": [{"text": f"{name} {client}"}], "k": 1})
    return "/search", body, lambda got: got["results"][0]["caption"] == f"a {name} square" and len(got["results"]) == 1


def close(rows, wanted) -> bool:
    return len(rows) == len(wanted) and np.allclose(rows, wanted, atol=2e-7)


async def client(number: int, port: int, until: float, seen: Counter) -> None:
    line, turn = Line(port), 0
    while time.monotonic() < until:
        path, body, right = asks(number, turn)
        status, headers, answer = await line.ask(path, body)
        seen[status] += 1
        if status == 200:
            seen["crossed"] += not right(json.loads(answer))
            turn += 1
        else:
            assert "retry-after" in headers or status != 429
            await asyncio.sleep(0.02)
    line.close()


async def clients(count: int, port: int, seconds: float) -> Counter:
    seen: Counter = Counter(crossed=0)
    until = time.monotonic() + seconds
    await asyncio.gather(*(client(number, port, until, seen) for number in range(count)))
    return seen


def test_fifty_clients_get_their_own_answers():
    model = Marker(seconds=0.002)
    with running(model, Colours(model), Limits(batch=16, queue=200)) as there:
        seen = asyncio.run(clients(50, there.port, 4.0))
        sizes = there.service.batcher.counts["text"].sizes
    assert set(seen) <= {200, 429, "crossed"}
    assert seen["crossed"] == 0
    assert seen[200] > 100
    assert max(sizes) > 2, "requests were batched together"


def test_a_small_queue_answers_429_and_the_rest_is_right():
    model = Marker(seconds=0.01)
    with running(model, Colours(model), Limits(batch=2, queue=4)) as there:
        seen = asyncio.run(clients(30, there.port, 1.5))
    assert set(seen) == {200, 429, "crossed"}
    assert seen["crossed"] == 0


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="resident memory is read from /proc")
def test_two_hundred_clients_for_a_minute(capsys):
    """A server of its own process; resident memory after 10 s and at the end."""
    command = [sys.executable, "-c", "import serving_fakes as f\nm = f.Marker(0.002)\nfrom serving_main import main\nmain(m, f.Colours(m))"]
    there = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=os.path.dirname(__file__))
    try:
        port = int(there.stdout.readline())
        seen = asyncio.run(clients(200, port, 10.0))
        before = memory(there.pid)
        seen += asyncio.run(clients(200, port, 60.0))
        after = memory(there.pid)
    finally:
        there.send_signal(signal.SIGTERM)
        there.stdout.close()
        assert there.wait(60) == 0
    with capsys.disabled():
        print(f"\n200 clients, 70 s: {dict(seen)}; resident {before >> 20} MiB after 10 s, {after >> 20} MiB at the end")
    assert set(seen) <= {200, 429, "crossed"}
    assert seen["crossed"] == 0
    assert seen[200] > 1000
    assert after - before < 16 << 20
