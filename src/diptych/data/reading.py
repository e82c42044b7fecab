"""Reading single samples for a loader: decode, keep in memory, remember what is broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from diptych.core.errors import DiptychError
from diptych.core.rng import generator
from diptych.core.types import Preprocess
from diptych.data.images import load_image
from diptych.data.sources.base import BrokenSample, Dataset

AUTO_BYTES = 1 << 30
TRIES = 100


@dataclass(frozen=True, slots=True)
class Item:
    """One decoded sample: uint8 ``(C, H, W)``, and its words as in :class:`~diptych.core.types.Sample`."""

    id: str
    image_CHW: Tensor
    captions: tuple[str, ...]
    concept: str | None
    label: int | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


class Reader:
    """Samples of a dataset at the model's size, safe to call from several threads.

    Args:
        alpha: four channels (opaque where the picture has no transparency) instead of three.
        keep: keep decoded pictures and words in memory; ``"auto"`` does so below about 1 GiB.
        need_words: a sample without a caption counts as broken.
    """

    def __init__(self, dataset: Dataset, preprocess: Preprocess, *, alpha: bool, keep: bool | str, need_words: bool) -> None:
        self.dataset, self.preprocess, self.need_words = dataset, preprocess, need_words
        self.channels = 4 if alpha else 3
        self.broken: dict[int, str] = {}
        shape = (len(dataset), self.channels, *preprocess.size)
        size = len(dataset) * self.channels * preprocess.size[0] * preprocess.size[1]
        self.keeps = size <= AUTO_BYTES if keep == "auto" else bool(keep)
        self._images = torch.empty(shape, dtype=torch.uint8) if self.keeps else None
        self._items: dict[int, Item] = {}

    def read(self, index: int) -> Item:
        """One sample. Raises :class:`BrokenSample`, at once when it was found broken before."""
        if index in self.broken:
            raise BrokenSample(self.dataset.ids[index], self.broken[index])
        if index in self._items:
            return self._items[index]
        try:
            item = self._load(index)
        except BrokenSample as error:
            self.broken[index] = error.why
            raise
        if self._images is not None:
            self._images[index] = item.image_CHW
            item = self._items[index] = replace(item, image_CHW=self._images[index])
        return item

    def _load(self, index: int) -> Item:
        sample = self.dataset[index]
        if self.need_words and not sample.captions:
            raise BrokenSample(sample.id, "it has no caption")
        image = load_image(sample.image, self.preprocess, keep_alpha=self.channels == 4, reduced=True)
        if image.shape[0] < self.channels:
            image = torch.cat([image, image.new_full((1, *image.shape[1:]), 255)])
        return Item(sample.id, image, sample.captions, sample.concept, sample.label, sample.meta)

    def read_or_replace(self, index: int, seed: int, epoch: int) -> Item:
        """One sample, or, where it is broken, another one drawn from (seed, epoch, index): the same on every rank.

        Raises:
            DiptychError: no readable sample among :data:`TRIES` draws.
        """
        stream = None
        for _ in range(TRIES):
            try:
                return self.read(index)
            except BrokenSample:
                stream = stream or generator(seed, "replace", epoch, index)
                index = int(torch.randint(len(self.dataset), (1,), generator=stream))
        raise DiptychError(
            f"data {self.dataset.path}",
            f"{TRIES} samples in a row cannot be read; the last: {next(reversed(self.broken.values()))}",
            f"Look at them with: diptych inspect {self.dataset.path}",
        )
