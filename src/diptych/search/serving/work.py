"""The work behind the addresses: decoding in a few threads, the model in one, searching in a few.

Shapes: N rows, D width of the joint space.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
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
from diptych.search.where import Filter
from diptych.towers.classifier import Classifier
from diptych.towers.dual import DualEncoder
from diptych.towers.encode import lengths

T = TypeVar("T")
LOG = logging.getLogger("diptych.serve")
DECODERS, SEARCHERS, CLASSIFIERS = 2, 4, 32
PRIVATE = {"path", "source"}  # columns that say where pictures lie


class Shared:
    """What a classifier asks of a model, answered through the batcher; for threads that may wait."""

    def __init__(self, model: DualEncoder, batcher: Batcher) -> None:
        self.scale, self.templates, self._batcher = model.scale, model.templates, batcher

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Unit rows (N, D). One batch after another is waited for, so that a long list leaves room for others."""
        size = self._batcher.batch
        parts = [self._batcher.submit("text", texts[at : at + size]).result() for at in range(0, len(texts), size)]
        return torch.from_numpy(np.stack([row for part in parts for row in part]))


class Service:
    """A model, and an index where there is one, behind one batcher.

    Args:
        model: loaded; from now on used by the batcher's thread only.
        index: to search in.
        limits: bounds.
    """

    def __init__(self, model: DualEncoder, index: Index | None = None, limits: Limits = Limits()) -> None:  # noqa: B008
        model.eval()
        self.model, self.index, self.limits = model, index, limits
        self.batcher = Batcher({"text": self._texts, "image": self._images}, limits.batch, limits.queue, limits.seconds / 2)
        self._shared = cast(DualEncoder, Shared(model, self.batcher))
        self.decoding, self.searching = Pool(DECODERS, "decode", limits.queue), Pool(SEARCHERS, "search", limits.queue)
        self._lock, self._turn = threading.Lock(), threading.Lock()
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

    async def image_rows(self, raw: Sequence[bytes], reduced: bool = False) -> np.ndarray:
        """Unit rows (N, D) of encoded pictures.

        Args:
            reduced: decode JPEG at a reduced scale, as an index does.

        Raises:
            BrokenSample: names the first that cannot be decoded.
        """
        prepared = [await self.decoding.run(self._prepared, at, item, reduced) for at, item in enumerate(raw)]
        return np.stack(await asyncio.wrap_future(self.batcher.submit("image", prepared)))

    def _prepared(self, at: int, raw: bytes, reduced: bool) -> Tensor:
        """The encoded picture number ``at`` as uint8 (3, H, W) at the model's size."""
        preprocess = self.model.config.preprocess
        reduce_to = preprocess.size if reduced else None
        try:
            pixels = decode(raw, fill=preprocess.fill, max_pixels=self.limits.pixels, reduce_to=reduce_to)
        except BrokenSample as error:
            raise BrokenSample(f"image {at}", error.why, "Send a whole JPEG, PNG, WebP, GIF, BMP or TIFF") from error
        return preprocess_image(pixels, preprocess)

    async def text_tokens(self, texts: Sequence[str]) -> int:
        """How many ids the model reads of these texts."""
        tokenizer = self.model.tokenizer
        assert tokenizer is not None
        return await self.decoding.run(lambda: int(lengths(tokenizer(list(texts)), tokenizer.pad_id).sum()))

    async def classify(self, form: Classify) -> tuple[list[str], list[dict[str, Any]]]:
        """The labels, and the likeliest of them for each picture."""
        raw = [picture(item) for item in form.images]
        classifier = await self.searching.run(self._classifier, form)
        if classifier.rule is not None and classifier.rule.config.reads == "pixels":
            given = torch.stack([await self.decoding.run(self._prepared, at, item, False) for at, item in enumerate(raw)])
        else:
            given = torch.from_numpy(await self.image_rows(raw))
        names, chances_NK = await self.searching.run(self._told, classifier, given, form.none_below)
        value_NT, at_NT = chances_NK.topk(min(form.top, len(classifier.labels)), dim=-1)
        tops = [
            [{"label": classifier.labels[at], "probability": round(value, 6)} for value, at in zip(values, places, strict=True)]
            for values, places in zip(value_NT.tolist(), at_NT.tolist(), strict=True)
        ]
        results = [{"label": name, "probability": top[0]["probability"], "top": top} for name, top in zip(names, tops, strict=True)]
        return list(classifier.labels), results

    def _told(self, classifier: Classifier, given: Tensor, none_below: float | None) -> tuple[list[str | None], Tensor]:
        """What a classifier predicts; one request after another where its rule may remember what it saw."""
        if classifier.rule is None:
            return classifier.predict(given, none_below=none_below)
        with self._turn:
            return classifier.predict(given, none_below=none_below)

    def _fitted(self, form: Classify) -> Classifier | None:
        """The classifier that the model was adapted to be, where it is asked for; None where its words are."""
        parts = [part for part in (getattr(self.model, "rule", None), getattr(self.model, "head", None)) if part is not None]
        names = tuple(form.labels)
        if form.templates is None and any(part.classes and names in ((), part.classes) for part in parts):
            return self.model.classifier(names or None)
        if not names:
            raise Refused(422, "labels", "none were given, and the model was not adapted to classes of its own", "Send at least one label")
        return None

    def _classifier(self, form: Classify) -> Classifier:
        """The classifier of these labels; the last few are kept."""
        key = (tuple(form.labels), None if form.templates is None else tuple(form.templates))
        found = self._classifiers.get(key) or self._fitted(form) or Classifier.from_labels(self._shared, form.labels, form.templates)
        with self._lock:
            self._classifiers[key] = found
            self._classifiers.move_to_end(key)
            if len(self._classifiers) > CLASSIFIERS:
                self._classifiers.popitem(last=False)
        return found

    async def search(self, form: Search) -> Answer:
        """What the index answers. Raises :class:`Refused` for a filter over where pictures lie, which stays with the server."""
        if form.where is not None and (private := PRIVATE & Filter(form.where).names):
            raise Refused(422, f"where: {form.where}", f"the server does not filter by {min(private)}", "Filter by another column")
        index, query, rows_PD = await self._encoded(form)
        return await self.searching.run(index.search, query, form.k, form.where, form.diverse, form.group_duplicates, rows_PD)

    async def feedback(self, form: Feedback) -> None:
        """Tell the index whether the picture was a right answer to the query."""
        self.known(self.opened(), form.id)
        index, query, rows_PD = await self._encoded(form.query)
        await self.searching.run(index.feedback, query, form.id, form.right, rows_PD)

    async def _encoded(self, asked: Asked) -> tuple[Index, Query, np.ndarray]:
        """A query and the unit rows of its words, then of its pictures, which came through the batcher."""
        index, model = self.opened(), self.model
        for like in asked.like:
            self.known(index, like.id)
        raw = [(picture(item.image), item.weight) for item in asked.images]
        words = tuple((item.text, item.weight) for item in asked.words)
        query = Query(words, tuple(raw), tuple((item.id, item.weight) for item in asked.like))
        rows = [np.empty((0, model.embed_dim), dtype=np.float32)]
        if words:
            rows.append(await self.text_rows(query.texts()))
        if raw:
            rows.append(await self.image_rows([data for data, _ in raw], reduced=True))
        return index, query, np.concatenate(rows)

    async def renew(self) -> None:
        """Take over what ``diptych index`` has written since; what cannot be taken over is told in the log, and the old stays in use."""
        if self.index is not None:
            try:
                await self.searching.run(self.index.refresh)
            except DiptychError as error:
                LOG.warning("%s", error)

    def opened(self) -> Index:
        """The index. Raises :class:`Refused` with 404 where the server has none."""
        if self.index is None:
            raise Refused(404, "index", "this server has a model only", "Start it with an index: diptych serve --index FOLDER")
        return self.index

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
