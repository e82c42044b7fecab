"""Requests a second of the server beside a plain FastAPI loop with the same weights: one process each, the same clients, turn by turn.

    python benchmarks/serve.py --model vit-b-32 --kind text     # beside transformers' CLIPModel
    python benchmarks/serve.py --model vit-b-32 --kind image
    python benchmarks/serve.py --model mini --kind text         # beside a loop around mini itself: transformers has no such towers
    python benchmarks/serve.py --model mini --latency           # what batching adds to one lone text

ViT-B/32 has drawn weights, written once as a Hugging Face folder that both sides read. The loop is what a first version looks like: one
request after the other, tokenizer or image processor, forward, unit rows, JSON. Both sides run the same uvicorn, and their rows
are compared before anything is timed. ``--clients`` connections each send the next request when the answer is there; texts are all
different, pictures are JPEGs of 320 × 240.

What is printed for each side, medians over the rounds: requests a second by the wall clock, requests a processor second of the server
(which other programs on the machine do not lengthen), and the median and 99th percentile of the seconds that a request took.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request

SIDES = ("diptych", "loop")
THINGS = ("apple", "ship", "dog", "house", "tree", "star", "car", "bird", "cup", "hat")


def jpeg(number: int) -> bytes:
    """A soft picture of 320 × 240 that no other number gives."""
    from PIL import Image

    small = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def body(kind: str, number: int) -> tuple[str, bytes, str]:
    """Path, body and content type of request ``number``."""
    if kind == "image":
        return "/embed/image", jpeg(number), "image/jpeg"
    text = f"a photo of a {THINGS[number % 10]} beside a {THINGS[number // 10 % 10]}, number {number}"
    return "/embed/text", json.dumps({"texts": [text]}).encode(), "application/json"


def make_model(name: str, folder: Path) -> str:
    """The name that both sides load; drawn weights of a preset are written into ``folder``."""
    if name == "mini":
        return name
    from diptych import save
    from diptych.data.tokenizers import Tokenizer
    from diptych.towers.dual import DualEncoder
    from diptych.towers.presets import preset

    save(DualEncoder(preset(name), Tokenizer.clip(style="huggingface")), folder, "huggingface")
    return str(folder)


def encoders(name: str) -> tuple[Callable[[list[str]], Any], Callable[[bytes], Any]]:
    """What the loop calls for texts and for the bytes of a picture: transformers for a folder, diptych's own for mini."""
    import torch
    from PIL import Image

    if name == "mini":
        from diptych import load

        mini = load(name)
        return mini.encode_text, mini.encode_image
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    model = CLIPModel.from_pretrained(name).eval()
    words, pictures = AutoTokenizer.from_pretrained(name), CLIPImageProcessor.from_pretrained(name)

    def unit(found: Any) -> Any:
        rows = found if isinstance(found, torch.Tensor) else found.pooler_output
        return torch.nn.functional.normalize(rows, dim=-1)

    def text(texts: list[str]) -> Any:
        with torch.inference_mode():
            return unit(model.get_text_features(**words(texts, padding=True, truncation=True, return_tensors="pt")))

    def image(raw: bytes) -> Any:
        with torch.inference_mode():
            return unit(model.get_image_features(**pictures(Image.open(io.BytesIO(raw)).convert("RGB"), return_tensors="pt")))

    return text, image


def loop_app(name: str) -> Any:
    """The plain loop."""
    app, (text, image) = FastAPI(), encoders(name)

    @app.post("/embed/text")
    async def embed_text(request: Request) -> dict[str, Any]:
        return {"rows": text((await request.json())["texts"]).tolist()}

    @app.post("/embed/image")
    async def embed_image(request: Request) -> dict[str, Any]:
        return {"rows": image(await request.body()).tolist()}

    return app


def serve_side(side: str, name: str) -> None:
    """Be one of the two servers; prints the port."""
    from diptych.search.serving.limits import Limits
    from diptych.search.serving.run import bound, serve

    limits = Limits(seconds=600.0)
    if side == "loop":
        app = loop_app(name)
    else:
        from diptych import load
        from diptych.search.server import make_app
        from diptych.search.serving.work import Service

        app = make_app(Service(load(name), limits=limits), loopback=True)
    with bound("127.0.0.1", 0) as at:
        print(at.getsockname()[1], flush=True)
        serve(app, limits, at)


@contextlib.contextmanager
def running(side: str, name: str) -> Iterator[tuple[int, int]]:
    """One of the two servers in its process; gives process id and port."""
    command = [sys.executable, __file__, "--side", side, "--model", name]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


def processor_seconds(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def client(port: int, kind: str, numbers: list[int], took: list[float], rows: dict[int, Any]) -> None:
    """Send the requests of these numbers one after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in numbers:
        path, data, content = body(kind, number)
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content}\r\nContent-Length: {len(data)}\r\n\r\n"
        start = time.perf_counter()
        writer.write(head.encode() + data)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length"))
        answer = await reader.readexactly(length)
        took.append(time.perf_counter() - start)
        if not lines[0].split()[1] == "200":
            raise SystemExit(f"{lines[0]}: {answer[:200]!r}")
        if number < 4:
            rows[number] = json.loads(answer)["rows"][0]
    writer.close()


def measure(server: tuple[int, int], kind: str, clients: int, requests: int) -> dict[str, Any]:
    """One round against one server."""
    pid, port = server
    took: list[float] = []
    rows: dict[int, Any] = {}
    parts = [list(range(at, requests, clients)) for at in range(clients)]

    async def every() -> None:
        await asyncio.gather(*(client(port, kind, part, took, rows) for part in parts))

    busy, start = processor_seconds(pid), time.perf_counter()
    asyncio.run(every())
    wall = time.perf_counter() - start
    busy = processor_seconds(pid) - busy
    middle, high = np.percentile(took, [50, 99])
    return {"wall": requests / wall, "cpu": requests / busy, "p50": middle, "p99": high, "rows": rows}


def compare(name: str, kind: str, clients: int, requests: int, rounds: int) -> None:
    """Both sides turn by turn, and the table."""
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(name, Path(folder) / name)
        with running("diptych", model) as ours, running("loop", model) as theirs:
            servers = dict(zip(SIDES, (ours, theirs), strict=True))
            first = {side: measure(server, kind, min(clients, 4), max(4, min(clients, requests))) for side, server in servers.items()}
            apart = max(np.abs(np.subtract(first["diptych"]["rows"][n], first["loop"]["rows"][n])).max() for n in range(4))
            found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
            for turn in range(rounds):
                for side in SIDES if turn % 2 == 0 else SIDES[::-1]:
                    found[side].append(measure(servers[side], kind, clients, requests))
    print(f"{name}, {kind}, {clients} clients, {rounds} rounds of {requests} requests; rows at most {apart:.1e} apart")
    middle = {side: {key: statistics.median(one[key] for one in found[side]) for key in ("wall", "cpu", "p50", "p99")} for side in SIDES}
    for side, row in middle.items():
        print(f"{side:8} {row['wall']:8.1f} /s {row['cpu']:8.1f} /cpu s   p50 {1e3 * row['p50']:7.0f} ms   p99 {1e3 * row['p99']:7.0f} ms")
    ratios = {key: middle["diptych"][key] / middle["loop"][key] for key in ("wall", "cpu", "p50", "p99")}
    print(f"ratio    {ratios['wall']:8.2f}    {ratios['cpu']:8.2f}         p50 {ratios['p50']:7.2f}      p99 {ratios['p99']:7.2f}")


def latency(name: str, turns: int) -> None:
    """Medians of one lone text: the model's own call, the same through the batcher, and the handing over alone."""
    from diptych import load
    from diptych.search.batching import Batcher
    from diptych.search.serving.work import Service

    model = load(name)
    service, empty = Service(model), Batcher({"nothing": lambda items: items})
    spent: dict[str, list[tuple[float, float]]] = {"model": [], "through the batcher": [], "handing over alone": []}

    async def handed() -> None:
        await asyncio.wrap_future(empty.submit("nothing", [0]))

    async def one() -> None:
        for turn in range(turns):
            text = json.loads(body("text", turn)[1])["texts"]
            for kind in spent:
                wall, busy = time.perf_counter(), time.process_time()
                if kind == "model":
                    model.encode_text(text)
                else:
                    await (service.text_rows(text) if kind == "through the batcher" else handed())
                spent[kind].append((time.perf_counter() - wall, time.process_time() - busy))

    asyncio.run(one())
    service.close()
    empty.close()
    print(f"{name}, one text at a time, medians of {turns}")
    for kind, pairs in spent.items():
        wall, busy = (1e3 * statistics.median(values[turns // 10 :]) for values in zip(*pairs, strict=True))
        print(f"{kind:20} {wall:7.2f} ms, {busy:7.2f} ms of processor time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--kind", choices=("text", "image"), default="text")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        serve_side(given.side, given.model)
    elif given.latency:
        latency(given.model, given.requests)
    else:
        compare(given.model, given.kind, given.clients, given.requests, given.rounds)


if __name__ == "__main__":
    main()
