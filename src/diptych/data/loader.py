"""From a dataset to an endless stream of batches, the same at any number of ranks and workers, resumable anywhere."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from diptych.core.errors import DiptychError, UsageError, nearest
from diptych.core.rng import generator
from diptych.core.types import Batch, Preprocess, Words
from diptych.data.augment import Augment, apply, draw
from diptych.data.material import Material
from diptych.data.reading import Item, Reader
from diptych.data.sources.base import BrokenSample, Dataset, digest
from diptych.data.transforms import check_preprocess

CAPTIONS = ("random", "first", "all", "none")
AHEAD = 3
TOKEN_CACHE = 200_000
FEW = 20
NOTHING = Material()


class Loader(Iterator[Batch]):
    """An endless iterator of batches.

    Batch ``step`` is a pure function of (dataset, seed, step): the epoch's order, the caption picked, the augmentation
    and the stand-in for a broken sample come from named streams of the seed. Hence ranks share one order (rank r takes
    its slice of each global batch), resume is exact, and neither workers nor memory change anything. The last samples of
    an epoch that do not fill a batch are left out; every epoch they are others.

    Args:
        dataset: what :func:`diptych.data.open` gives.
        tokenize: captions → int64 ids ``(B, L)``, padded with its ``pad_id`` (0 where it has none); None leaves ``text_BL``
            empty (``(B, 0)``), for words that are encoded elsewhere; ``Batch.captions`` is filled either way.
        preprocess: the model's; ``Batch.image_BCHW`` has its size.
        batch_size: rows of the global batch, over all ranks.
        seed: every draw comes from it.
        rank, world: this process among how many.
        augment: random variation; None or all-zero is the identity.
        keep_in_memory: keep decoded pictures (uint8); ``"auto"``: where they fit in about 1 GiB.
        workers: threads that decode, three batches ahead; 0: in the calling thread.
        caption: ``"random"`` one each time, ``"first"``, ``"all"`` (every image–caption pair once an epoch) or ``"none"``.
        crop_text: drop the columns of ``text_BL`` that are padding in the whole batch (causal text towers); one more stays where the
            closing token doubles as padding.
        max_broken: the run stops when more than this share of the set cannot be read.
        material: what a batch holds beside pictures and captions, and how captions are rewritten.

    Raises:
        UsageError: sizes that do not divide, a batch larger than the set, an unknown ``caption``.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        tokenize: Callable[[list[str]], Tensor] | None,
        preprocess: Preprocess,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        augment: Augment | None = None,
        keep_in_memory: bool | str = "auto",
        workers: int = 0,
        caption: str = "random",
        crop_text: bool = True,
        max_broken: float = 0.05,
        material: Material = NOTHING,
    ) -> None:
        check_preprocess(preprocess)
        material.check(preprocess)
        if caption not in CAPTIONS:
            raise UsageError(f"caption={caption!r}", "no such choice", nearest(caption, CAPTIONS))
        if keep_in_memory not in (True, False, "auto"):
            raise UsageError(f"keep_in_memory={keep_in_memory!r}", "no such choice", "Give True, False or 'auto'")
        if batch_size < 1 or batch_size % world or not 0 <= rank < world:
            raise UsageError(
                f"batch_size={batch_size}, rank={rank}, world={world}", "the batch must divide among ranks", "Change batch_size"
            )
        self.dataset, self.tokenize, self.preprocess = dataset, tokenize, preprocess
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self.augment, self.workers, self.caption = augment, workers, caption
        self.crop_text, self.max_broken, self.material = crop_text, max_broken, material
        alpha = material.backgrounds or (augment is not None and augment.background > 0)
        self._reader = Reader(dataset, preprocess, alpha=alpha, keep=keep_in_memory, need_words=caption != "none")
        self._pairs = self._list_pairs() if caption == "all" else None
        self.length = len(dataset) if self._pairs is None else len(self._pairs)
        if self.length < batch_size:
            raise UsageError(
                f"batch_size={batch_size}", f"{dataset.path} has only {self.length} samples", f"Set batch_size to {self.length} or less"
            )
        self.steps_per_epoch = self.length // batch_size
        self.step = 0
        self.broken: dict[str, str] = {}
        self._epochs: dict[int, tuple[Tensor, Tensor]] = {}
        self._tokens: dict[str, Tensor] = {}
        self._pad = getattr(tokenize, "pad_id", 0)
        self._spare = int(getattr(tokenize, "frame", (None, None))[1] == self._pad)
        self._ready: deque[Future[tuple[Batch, dict[str, str]]]] = deque()
        self._decoders = ThreadPoolExecutor(workers, "decode") if workers else None
        self._assembler = ThreadPoolExecutor(1, "batch") if workers else None

    @property
    def epoch(self) -> int:
        """Epoch of the next batch, from 0."""
        return self.step // self.steps_per_epoch

    def __iter__(self) -> Loader:
        return self

    def __next__(self) -> Batch:
        """The next batch. Raises :class:`DiptychError` when too much of the set is broken."""
        if self._assembler is None:
            batch, broken = self.batch(self.step)
        else:
            while len(self._ready) < AHEAD:
                self._ready.append(self._assembler.submit(self.batch, self.step + len(self._ready)))
            batch, broken = self._ready.popleft().result()
        self.step += 1
        self._note(broken)
        return batch

    def batch(self, step: int) -> tuple[Batch, dict[str, str]]:
        """This rank's part of batch ``step``, and what was found broken for it (id → why)."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order, chance = self._order(epoch)
        rows = self.batch_size // self.world
        start = place * self.batch_size + self.rank * rows
        chosen = order[start : start + rows]
        indices = chosen.tolist() if self._pairs is None else [self._pairs[i][0] for i in chosen.tolist()]
        map_all = self._decoders.map if self._decoders else map
        items = list(map_all(lambda index: self._reader.read_or_replace(index, self.seed, epoch), indices))
        broken = {self.dataset.ids[i]: self._reader.broken[i] for i in indices if i in self._reader.broken}
        captions = self._pick(items, chosen, chance)
        concept = torch.tensor([self._concept(item, i, captions) for i, item in enumerate(items)])
        drawn, fill, first = self._draw(step), self.preprocess.fill, self.rank * rows
        words = [Words(item.id, text, item.captions, item.label, item.concept, item.meta) for item, text in _zip(items, captions)]
        captions = self.material.captions(words, self.seed, step, first) if captions else ()
        stacked = torch.stack([item.image_CHW for item in items])
        extra = self.material.extra(words, self._token_rows, self.seed, step, first, drawn)
        extra |= self.material.further(stacked, fill, self.seed, step, slice(first, first + rows), self.batch_size)
        ids = tuple(item.id for item in items)
        return Batch(apply(stacked, drawn, fill), self._text(captions, rows), ids, concept, drawn, captions, extra), broken

    def _order(self, epoch: int) -> tuple[Tensor, Tensor]:
        """The epoch's order, and one uniform number a place in the set that picks its caption."""
        if epoch not in self._epochs:
            stream = generator(self.seed, "order", epoch)
            order = self.dataset.order(stream) if self._pairs is None else torch.randperm(self.length, generator=stream)
            self._epochs[epoch] = order, torch.rand(self.length, generator=generator(self.seed, "caption", epoch), dtype=torch.float64)
            for old in sorted(self._epochs)[:-2]:
                del self._epochs[old]
        return self._epochs[epoch]

    def _list_pairs(self) -> list[tuple[int, int]]:
        """Every (sample, caption) of the set, for ``caption="all"``; unreadable words are left out."""
        pairs = []
        for index in range(len(self.dataset)):
            try:
                count = len(self.dataset.captions(index))
            except BrokenSample:
                count = 0
            pairs += [(index, j) for j in range(count)]
        return pairs

    def _pick(self, items: list[Item], chosen: Tensor, chance: Tensor) -> tuple[str, ...]:
        """One caption a row."""
        if self.caption == "none":
            return ()
        if self.caption == "first":
            return tuple(item.captions[0] for item in items)
        if self._pairs is not None:
            places = [self._pairs[i][1] for i in chosen.tolist()]
            return tuple(item.captions[place % len(item.captions)] for item, place in zip(items, places, strict=True))
        shares = chance[chosen].tolist()
        return tuple(item.captions[int(share * len(item.captions))] for item, share in zip(items, shares, strict=True))

    def _draw(self, step: int) -> Mapping[str, Tensor]:
        """This rank's rows of what was drawn for the whole global batch."""
        if self.augment is None:
            return {}
        rows = self.batch_size // self.world
        drawn = draw(self.augment, self.batch_size, generator(self.seed, "augment", step))
        return {name: value[self.rank * rows : (self.rank + 1) * rows] for name, value in drawn.items()}

    def _concept(self, item: Item, row: int, captions: tuple[str, ...]) -> int:
        """Equal numbers for positives: by concept, else by caption; by sample where every caption is a row of its own."""
        if item.concept is not None:
            name = f"concept {item.concept}"
        elif captions and self.caption != "all":
            name = f"caption {captions[row]}"
        else:
            name = f"sample {item.id}"
        return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1

    def _text(self, captions: tuple[str, ...], rows: int) -> Tensor:
        """Token ids ``(B, L)``; rows of captions seen before are not tokenized again."""
        if self.tokenize is None or not captions:
            return torch.zeros(rows, 0, dtype=torch.int64)
        text = self._token_rows(captions)
        if not self.crop_text:
            return text
        used = (text != self._pad).any(dim=0).nonzero()
        return text[:, : (int(used[-1]) + 1 if len(used) else 1) + self._spare].contiguous()

    def _token_rows(self, texts: Sequence[str]) -> Tensor:
        """Uncropped token ids of texts, (n, L)."""
        if self.tokenize is None:
            raise UsageError("material of words", "the loader has no tokenizer", "Give it one: Loader(…, tokenize=…)")
        fresh = list(dict.fromkeys(text for text in texts if text not in self._tokens))
        if fresh:
            if len(self._tokens) > TOKEN_CACHE:
                self._tokens.clear()
                fresh = list(dict.fromkeys(texts))
            self._tokens.update(zip(fresh, self.tokenize(fresh).to(torch.int64), strict=True))
        return torch.stack([self._tokens[text] for text in texts])

    def _note(self, broken: dict[str, str]) -> None:
        """Remember what was broken; stop when it is too much of the set, or most of what was seen so far."""
        self.broken.update(broken)
        seen = min(self.length, self.step * (self.batch_size // self.world))
        limit = self.max_broken * len(self.dataset)
        if len(self.broken) > limit or (len(self.broken) > FEW and len(self.broken) * 2 > seen):
            first = "; ".join(f"{name} ({why})" for name, why in list(self.broken.items())[:3])
            raise DiptychError(
                f"data {self.dataset.path}",
                f"{len(self.broken)} of {len(self.dataset)} samples cannot be read, among them {first}",
                f"Mend or remove them (diptych inspect {self.dataset.path}), or raise max_broken above {self.max_broken}",
            )

    def state_dict(self) -> dict[str, Any]:
        """What exact resume needs; plain JSON values. Batches read ahead do not count as given out."""
        return {
            "step": self.step,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "caption": self.caption,
            "data": digest(self.dataset.ids),
            "augment": self.augment.model_dump(mode="json") if self.augment else None,
            "broken": dict(self.broken),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` was taken. The number of ranks may differ, nothing else.

        Raises:
            DiptychError: the data, seed, batch size, caption choice or augmentation is not the one of ``state``.
        """
        own = self.state_dict()
        for name in ("data", "seed", "batch_size", "caption", "augment"):
            if own[name] != state[name]:
                raise DiptychError(
                    f"resume with {name}={own[name]!r}",
                    f"the run was saved with {state[name]!r}",
                    "Use the same data and settings, or start anew",
                )
        self._drop_ahead()
        self.step, self.broken = int(state["step"]), dict(state["broken"])

    def _drop_ahead(self) -> None:
        for future in self._ready:
            future.cancel()
        self._ready.clear()

    def close(self) -> None:
        """End the threads; the loader gives no further batches."""
        self._drop_ahead()
        for pool in (self._assembler, self._decoders):
            if pool:
                pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _zip(items: Sequence[Item], captions: Sequence[str]) -> Iterator[tuple[Item, str]]:
    """Items with their captions; with "" where the batch has no words."""
    return zip(items, captions or [""] * len(items), strict=True)
