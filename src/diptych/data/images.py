"""Decode and preprocess in one call, and whole datasets in order: what evaluation, encoding and export read with."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from diptych.core.types import Preprocess
from diptych.data.decode import decode
from diptych.data.sources.base import BrokenSample, Dataset
from diptych.data.transforms import preprocess_image


def load_image(source: bytes | str | Path, preprocess: Preprocess, *, keep_alpha: bool = False, reduced: bool = False) -> Tensor:
    """One picture at the model's size.

    Args:
        keep_alpha: RGBA out where the picture is transparent.
        reduced: let JPEG decode at a reduced scale (faster; a few levels off).

    Returns:
        uint8 ``(C, H, W)``.

    Raises:
        BrokenImage: it cannot be decoded.
    """
    pixels = decode(source, keep_alpha=keep_alpha, fill=preprocess.fill, reduce_to=preprocess.size if reduced else None)
    return preprocess_image(pixels, preprocess)


def image_batches(
    dataset: Dataset, preprocess: Preprocess, batch_size: int, *, workers: int = 0, broken: list[tuple[str, str]] | None = None
) -> Iterator[tuple[list[int], Tensor]]:
    """Every picture of a dataset once, in order.

    Args:
        workers: threads that decode; 0 decodes in the calling thread. The answer does not depend on it.
        broken: where given, unreadable samples are left out and noted here as ``(id, why)``; else they raise.

    Yields:
        Indices into the dataset and uint8 ``(B, 3, H, W)``, at most ``batch_size`` of them.

    Raises:
        BrokenSample: a sample cannot be read and ``broken`` is None.
    """

    def one(index: int) -> Tensor | BrokenSample:
        try:
            return load_image(dataset[index].image, preprocess)
        except BrokenSample as error:
            return error

    pool = ThreadPoolExecutor(workers) if workers else None
    try:
        for start in range(0, len(dataset), batch_size):
            indices = range(start, min(start + batch_size, len(dataset)))
            kept: list[tuple[int, Tensor]] = []
            for index, image in zip(indices, pool.map(one, indices) if pool else map(one, indices), strict=True):
                if isinstance(image, Tensor):
                    kept.append((index, image))
                elif broken is None:
                    raise image
                else:
                    broken.append((dataset.ids[index], image.why))
            if kept:
                yield [index for index, _ in kept], torch.stack([image for _, image in kept])
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)
