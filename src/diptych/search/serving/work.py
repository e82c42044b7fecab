"""The work behind the addresses: decoding in a few threads, the model in one, searching in a few.

Shapes: N rows, D width of the joint space.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from diptych.core.errors import DiptychError
from diptych.data.decode import decode
from diptych.data.sources.base import BrokenSample
from diptych.data.transforms import preprocess_image
from diptych.search.batching import Batcher, Busy
from diptych.search.index import Index
from diptych.search.query import Answer, Query
from diptych.search.serving.errors import Refused
from diptych.search.serving.forms import Asked, Classify, Feedback, Search, picture
from diptych.search.serving.limits import Limits
from diptych.search.serving.turns import Turns
from diptych.towers.classifier import Classifier
from diptych.towers.dual import DualEncoder
from diptych.towers.encode import as_list, lengths, pixels

T = TypeVar("T")
RENEW_SECONDS = 5.0
DECODERS, SEARCHERS, CLASSIFIERS = 2, 4, 32


class Shared:
    """A model that many threads may use: rows come through the batcher, everything else is the model's own."""

    def __init__(self, model: DualEncoder, batcher: Batcher) -> None:
        self._model, self._batcher = model, batcher

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode_text(self, texts: str | Iterable[str], batch_size: int = 0, progress: bool = False) -> Tensor:
        """Unit rows (N, D) of texts; ``batch_size`` and ``progress`` are the batcher's business here."""
        return self._rows("text", [texts] if isinstance(texts, str) else list(texts))

    def encode_image(self, images: Any, batch_size: int = 0, progress: bool = False) -> Tensor:
        """Unit rows (N, D) of pictures in any form that the model reads."""
        items = images if isinstance(images, Tensor) else [pixels(image, self._model.config.preprocess) for image in as_list(images)]
        return self._rows("image", list(items))

    def _rows(self, kind: str, items: list[Any]) -> Tensor:
        """Waits for one batch after another, so that a long list leaves room for others."""
        size = self._batcher.batch
        rows = [row for at in range(0, len(items), size) for row in self._batcher.submit(kind, items[at : at + size]).result()]
        return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, self._model.embed_dim)


class Service:
    """A model, and an index where there is one, behind one batcher.

    Args:
        model: loaded; from now on used by the batcher's thread only.
        index: to search in; its model becomes the shared one.
        limits: bounds.
    """

    def __init__(self, model: DualEncoder, index: Index | None = None, limits: Limits = Limits()) -> None:  # noqa: B008
        model.eval()
        self.model, self.index, self.limits = model, index, limits
        self.batcher = Batcher({"text": self._texts, "image": self._images}, limits.batch, limits.queue, limits.seconds / 2)
        self.shared = cast(DualEncoder, Shared(model, self.batcher))
        if index is not None:
            index.model = self.shared
        self.decoding, self.searching = Pool(DECODERS, "decode", limits.queue), Pool(SEARCHERS, "search", limits.queue)
        self._lock, self._turns, self._renew_at = threading.Lock(), Turns(), 0.0
        self._classifiers: OrderedDict[tuple[tuple[str, ...], tuple[str, ...] | None], Classifier] = OrderedDict()

    def close(self) -> None:
        """Answer what was accepted, then end the threads."""
        self.decoding.close()
        self.searching.close()
        self.batcher.close()

    def _texts(self, texts: Sequence[str]) -> np.ndarray:
        return self.model.encode_text(texts, batch_size=self.limits.batch).numpy()

    def _images(self, images: Sequence[Tensor]) -> np.ndarray:
        return self.model.encode_image(torch.stack(list(images)), batch_size=self.limits.batch).numpy()

    async def text_rows(self, texts: Sequence[str]) -> np.ndarray:
        """Unit rows (N, D) of texts."""
        return np.stack(await asyncio.wrap_future(self.batcher.submit("text", texts)))

    async def image_rows(self, raw: Sequence[bytes]) -> np.ndarray:
        """Unit rows (N, D) of encoded pictures. Raises :class:`BrokenSample` naming the first that cannot be decoded."""
        prepared = [await self.decoding.run(self._prepared, at, item) for at, item in enumerate(raw)]
        return np.stack(await asyncio.wrap_future(self.batcher.submit("image", prepared)))

    def _prepared(self, at: int, raw: bytes) -> Tensor:
        """The encoded picture number ``at`` as uint8 (3, H, W) at the model's size."""
        preprocess = self.model.config.preprocess
        return preprocess_image(self._decoded(at, raw), preprocess)

    def _decoded(self, at: int, raw: bytes, reduce_to: tuple[int, int] | None = None) -> np.ndarray:
        try:
            return decode(raw, fill=self.model.config.preprocess.fill, max_pixels=self.limits.pixels, reduce_to=reduce_to)
        except BrokenSample as error:
            raise BrokenSample(f"image {at}", error.why, "Send a whole JPEG, PNG, WebP, GIF, BMP or TIFF") from error

    async def text_tokens(self, texts: Sequence[str]) -> int:
        """How many ids the model reads of these texts."""
        tokenizer = self.model.tokenizer
        assert tokenizer is not None
        return await self.decoding.run(lambda: int(lengths(tokenizer(list(texts)), tokenizer.pad_id).sum()))

    async def classify(self, form: Classify) -> list[dict[str, Any]]:
        """The likeliest labels of each picture."""
        rows_ND = torch.from_numpy(await self.image_rows([picture(item) for item in form.images]))
        classifier = await self.searching.run(self._classifier, form)
        names, chances_NK = classifier.predict(rows_ND, none_below=form.none_below)
        value_NT, at_NT = chances_NK.topk(min(form.top, len(form.labels)), dim=-1)
        tops = [
            [{"label": form.labels[at], "probability": round(value, 6)} for value, at in zip(values, places, strict=True)]
            for values, places in zip(value_NT.tolist(), at_NT.tolist(), strict=True)
        ]
        return [{"label": name, "probability": top[0]["probability"], "top": top} for name, top in zip(names, tops, strict=True)]

    def _classifier(self, form: Classify) -> Classifier:
        """The classifier of these labels; the last few are kept."""
        key = (tuple(form.labels), None if form.templates is None else tuple(form.templates))
        found = self._classifiers.get(key) or Classifier.from_labels(self.shared, form.labels, form.templates)
        with self._lock:
            self._classifiers[key] = found
            self._classifiers.move_to_end(key)
            if len(self._classifiers) > CLASSIFIERS:
                self._classifiers.popitem(last=False)
        return found

    async def search(self, form: Search) -> Answer:
        """What the index answers."""
        return await self.searching.run(self._search, form)

    def _search(self, form: Search) -> Answer:
        index = self.opened()
        self._renew(index)
        with self._turns.reading():
            return index.search(self._query(index, form), form.k, form.where, form.diverse, form.group_duplicates)

    async def feedback(self, form: Feedback) -> None:
        """Tell the index whether the picture was a right answer to the query."""
        await self.searching.run(self._feedback, form)

    def _feedback(self, form: Feedback) -> None:
        index = self.opened()
        with self._turns.changing():
            self.known(index, form.id)
            index.feedback(self._query(index, form.query), form.id, form.right)

    def _renew(self, index: Index) -> None:
        """Take over, now and then, what ``diptych index`` has written since."""
        with self._lock:
            due = time.monotonic() >= self._renew_at
            if due:
                self._renew_at = time.monotonic() + RENEW_SECONDS
        if due:
            with self._turns.changing():
                index.refresh()

    def opened(self) -> Index:
        """The index. Raises :class:`Refused` with 404 where the server has none."""
        if self.index is None:
            raise Refused(404, "index", "this server has a model only", "Start it with an index: diptych serve --index FOLDER")
        return self.index

    def _query(self, index: Index, asked: Asked) -> Query:
        for like in asked.like:
            self.known(index, like.id)
        size = self.model.config.preprocess.size
        images = [(self._decoded(at, picture(item.image), size), item.weight) for at, item in enumerate(asked.images)]
        words = tuple((item.text, item.weight) for item in asked.words)
        return Query(words, tuple(images), tuple((item.id, item.weight) for item in asked.like))

    @staticmethod
    def known(index: Index, id: str) -> dict[str, Any]:
        """The row of an id. Raises :class:`Refused` with 404 where the index holds none."""
        try:
            return index.row(id)
        except DiptychError as error:
            raise Refused(404, f"id {id}", "the index holds no such picture", "Use an id that a search has shown") from error


class Pool:
    """A few threads with a bounded queue.

    Args:
        threads: how many.
        name: of the threads.
        queue: most calls that wait or run; more are refused with :class:`Busy`.
    """

    def __init__(self, threads: int, name: str, queue: int) -> None:
        self._threads, self._queue, self._open = ThreadPoolExecutor(threads, name), queue, 0

    async def run(self, function: Callable[..., T], *given: Any) -> T:
        """What ``function`` returns, called in one of the threads."""
        if self._open >= self._queue:
            raise Busy(self._open, 1)
        self._open += 1
        future = self._threads.submit(function, *given)
        future.add_done_callback(self._leave)
        return await asyncio.wrap_future(future)

    def _leave(self, _: object) -> None:
        self._open -= 1

    def close(self) -> None:
        """Finish what was accepted and end the threads."""
        self._threads.shutdown()
