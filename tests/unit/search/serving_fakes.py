"""A model whose rows say what they were made of, an index over it, and a server of both that runs in a thread."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from diptych.core.errors import DiptychError, UsageError
from diptych.core.types import Preprocess
from diptych.search.query import Answer, Hit
from diptych.search.server import make_app
from diptych.search.serving.limits import Limits
from diptych.search.serving.run import bound, server
from diptych.search.serving.work import Service

DIM = 8


def text_row(text: str) -> np.ndarray:
    """The unit row (DIM,) that belongs to a text alone."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    row = np.random.default_rng(seed).standard_normal(DIM)
    return (row / np.linalg.norm(row)).astype(np.float32)


def colour_row(colour) -> np.ndarray:
    """The unit row (DIM,) of a picture of one colour (three levels 0–255)."""
    row = np.zeros(DIM)
    row[:4] = [*(np.asarray(colour, dtype=np.float64) / 255), 1.0]
    return (row / np.linalg.norm(row)).astype(np.float32)


def png(colour, size=(20, 16)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, tuple(colour)).save(buffer, "PNG")
    return buffer.getvalue()


def data_url(raw: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(raw).decode()


class Ids:
    """As many ids as a text has words."""

    pad_id = 0

    def __call__(self, texts):
        longest = max(len(text.split()) for text in texts)
        return torch.tensor([[1] * len(text.split()) + [0] * (longest - len(text.split())) for text in texts])


class Marker:
    """A model of marked rows. ``seconds`` is what a batch costs, ``open`` holds it back."""

    embed_dim, templates, tokenizer = DIM, ("a {}",), Ids()
    scale = torch.tensor(10.0)

    def __init__(self, seconds: float = 0.0) -> None:
        self.config = SimpleNamespace(name="marker", preprocess=Preprocess(size=(8, 8), mean=(0.0,) * 3, std=(1.0,) * 3, resize="squash"))
        self.seconds, self.open = seconds, threading.Event()
        self.open.set()

    def eval(self):
        return self

    def encode_text(self, texts, batch_size=0, progress=False):
        self._work()
        return torch.from_numpy(np.stack([text_row(text) for text in ([texts] if isinstance(texts, str) else texts)]))

    def encode_image(self, image_NCHW, batch_size=0, progress=False):
        self._work()
        return torch.from_numpy(np.stack([colour_row(image_CHW.float().mean((1, 2))) for image_CHW in image_NCHW]))

    def _work(self):
        assert self.open.wait(20)
        time.sleep(self.seconds)


COLOURS = {
    "red": (220, 40, 40), "green": (40, 160, 70), "blue": (40, 80, 220), "yellow": (240, 210, 50), "black": (20, 20, 20),
    "violet": (130, 60, 200), "orange": (240, 140, 30), "grey": (128, 128, 128), "pink": (250, 160, 190), "brown": (120, 70, 30),
}  # fmt: skip


class Colours:
    """An index of one-coloured pictures: words find captions that hold them, pictures the nearest colours."""

    def __init__(self, model) -> None:
        self.model, self.said, self.refreshed = model, [], 0
        self.names = list(COLOURS)
        self.id_of = {name: hashlib.sha256(name.encode()).hexdigest()[:16] for name in self.names}

    def __len__(self):
        return len(self.names)

    def ids(self):
        return list(self.id_of.values())

    def refresh(self):
        self.refreshed += 1
        return False

    def row(self, id):
        found = {value: name for name, value in self.id_of.items()}.get(id)
        if found is None:
            raise DiptychError(f"id {id}", "the index holds no such picture", "Use an id that a search has shown")
        return {
            "id": id,
            "path": f"/secret/folder/{found}.png",
            "caption": f"a {found} square",
            "label": None,
            "meta": {"year": 2000 + len(found)},
        }

    def picture(self, id):
        return png(COLOURS[self.row(id)["caption"].split()[1]], (400, 300))

    def feedback(self, query, id, right, rows):
        assert rows.shape == (len(query.words) + len(query.images), DIM)
        self.said.append((query, id, right))

    def search(self, query, k=20, where=None, diverse=0.0, group_duplicates=True, rows=None):
        worded, pictured = rows[: len(query.words)], rows[len(query.words) :]
        np.testing.assert_array_equal(worded, [text_row(text) for text, _ in query.words] or np.empty((0, DIM)))
        if where is not None and not where.startswith("year"):
            raise UsageError("where", "no such column", "Did you mean 'year'?")
        parts = [(1 if name in text else 0, name, weight) for text, weight in query.words for name in self.names]
        parts += [
            (float(colour_row(COLOURS[name]) @ row) ** 8, name, weight)
            for (_, weight), row in zip(query.images, pictured, strict=True)
            for name in self.names
        ]
        liked = {self.row(id)["caption"].split()[1]: weight for id, weight in query.like}
        parts += [
            (float(colour_row(COLOURS[name]) @ colour_row(COLOURS[like])) ** 8, name, weight)
            for like, weight in liked.items()
            for name in self.names
        ]
        score = {name: sum(value * weight for value, at, weight in parts if at == name) for name in self.names if name not in liked}
        kept = [name for name in score if where is None or len(name) + 2000 > int(where.split(">")[1])]
        best = sorted(kept, key=lambda name: (-score[name], name))[:k]
        hits = tuple(self._hit(name, min(max(score[name], 0.01), 0.99)) for name in best)
        return Answer(bool(hits) and hits[0].score >= 0.5, hits, len(kept))

    def _hit(self, name, score):
        row = self.row(self.id_of[name])
        return Hit(row["id"], row["path"], score, score, row["caption"], None, row["meta"], ())


@contextmanager
def running(model=None, index=None, limits=Limits(), token=None, port=0):  # noqa: B008
    """A server in a thread; gives its address, service and application."""
    service = Service(model or Marker(), index, limits)
    app = make_app(service, token, loopback=True)
    with bound("127.0.0.1", port) as at:
        run = server(app, limits)
        thread = threading.Thread(target=lambda: asyncio.run(run.serve(sockets=[at])))
        thread.start()
        while not run.started:
            time.sleep(0.005)
        number = at.getsockname()[1]
        try:
            yield SimpleNamespace(
                port=number, url=f"http://127.0.0.1:{number}", service=service, app=app, stop=lambda: setattr(run, "should_exit", True)
            )
        finally:
            run.should_exit = True
            thread.join(60)
    assert not thread.is_alive()


class Line:
    """One kept connection, as small as a client can be, so that the clients of a load test cost little."""

    def __init__(self, port: int) -> None:
        self.port, self.reader, self.writer = port, None, None

    async def ask(self, path: str, body: bytes = b"", kind: str = "application/json", method: str = "POST"):
        """``(status, headers, body)``; the connection is opened again where the server closed it."""
        if self.writer is None or self.writer.is_closing() or self.reader.at_eof():
            self.close()
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name}
        answer = await self.reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.close()
        return int(first.split()[1]), headers, answer

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.writer = None


def as_json(data) -> bytes:
    return json.dumps(data).encode()
