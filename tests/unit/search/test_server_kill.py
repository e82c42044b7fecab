"""``diptych serve`` as a process: it starts, stops when told, and leaves the index whole when it is killed at work."""

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
from serving_fakes import COLOURS, Line, as_json, png

from diptych.cli.app import run
from diptych.search.index import Index
from diptych.search.query import Query


def started(*options: str) -> tuple[subprocess.Popen, int]:
    """The process and its port."""
    command = [sys.executable, "-m", "diptych", "serve", "--port", "0", "--json", *options]
    there = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    line = there.stdout.readline()
    there.stdout.close()
    if not line:
        there.kill()
        there.wait()
        pytest.fail("it did not start")
    return there, int(json.loads(line)["address"].rpartition(":")[2])


def test_what_is_wrong_is_told_before_anything_is_loaded(tmp_path, capsys):
    assert run(["serve", "--index", str(tmp_path / "none")]) == 1
    assert "there is no index" in capsys.readouterr().err
    assert run(["serve", "--token-file", str(tmp_path / "none")]) == 1
    assert "token file" in capsys.readouterr().err
    assert run(["serve", "--port", "70000"]) == 2


def test_a_signal_ends_it_well(tmp_path):
    there, port = started("--model", "mini")

    async def ask():
        line = Line(port)
        answer = await line.ask("/embed/text", as_json({"texts": ["a red apple"]}))
        line.close()
        return answer

    try:
        status, _, answer = asyncio.run(ask())
        assert (status, json.loads(answer)["dim"]) == (200, 384)
    finally:
        there.send_signal(signal.SIGTERM)
        assert there.wait(60) == 0


async def client(port: int, ids: list[str], until: float, seen: Counter) -> None:
    """Searches and clicks until the server is gone."""
    line, turn = Line(port), 0
    try:
        while time.monotonic() < until:
            name = list(COLOURS)[turn % len(COLOURS)]
            query = {"words": [{"text": f"a {name} square"}]}
            asks = (
                ("/feedback", {"query": query, "id": ids[turn % len(ids)], "right": turn % 2 == 0}) if turn % 3 == 0 else ("/search", query)
            )
            status, _, _ = await line.ask(asks[0], as_json(asks[1]))
            seen[asks[0], status] += 1
            turn += 1
    except (ConnectionError, asyncio.IncompleteReadError):
        seen["cut off"] += 1
    line.close()


@pytest.mark.slow
def test_killed_at_work_it_leaves_the_index_whole(tmp_path, capsys):
    photos, folder = tmp_path / "photos", tmp_path / "index"
    photos.mkdir()
    for name, colour in COLOURS.items():
        (photos / f"{name}.png").write_bytes(png(colour, (64, 64)))
    index, _ = Index.build(photos, folder, "mini")
    ids, before = index.ids(), index.search(Query.of("a red square"), k=10)
    seen: Counter = Counter()
    for turn in range(4):
        there, port = started("--index", str(folder))

        async def load(port=port, there=there, seconds=1.0 + 0.7 * turn):
            until = time.monotonic() + 60
            tasks = [asyncio.create_task(client(port, ids, until, seen)) for _ in range(20)]
            await asyncio.sleep(seconds)
            os.kill(there.pid, signal.SIGKILL)
            await asyncio.gather(*tasks)

        asyncio.run(load())
        assert there.wait(60) == -signal.SIGKILL
        found = Index.open(folder, index.model)
        after = found.search(Query.of("a red square"), k=10)
        assert found.ids() == ids
        assert [hit.id for hit in after.results] == [hit.id for hit in before.results]
        np.testing.assert_array_equal([hit.similarity for hit in after.results], [hit.similarity for hit in before.results])
    with capsys.disabled():
        print(f"\nkilled 4 times at work: {dict(seen)}; {len((folder / 'feedback.jsonl').read_text().splitlines())} lines of feedback")
    assert seen["/search", 200] > 20
    assert seen["/feedback", 200] > 5
    assert {key[1] for key in seen if isinstance(key, tuple)} == {200}
