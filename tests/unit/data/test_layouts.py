"""The same pairs in every layout are the same samples and the same batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from drawn_pairs import Pair, tokenize

import diptych.data
from diptych.core.types import Preprocess
from diptych.data.augment import Augment
from diptych.data.loader import Loader

LAYOUTS = ("folder", "csv", "tsv", "jsonl", "parquet", "tars", "tars-json")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_samples(layout: str, layouts: dict[str, Path], pairs: list[Pair]) -> None:
    dataset = diptych.data.open(layouts[layout])
    assert dataset.ids == [pair.name for pair in pairs]
    for sample, pair in zip(dataset, pairs, strict=True):
        content = sample.image if isinstance(sample.image, bytes) else sample.image.read_bytes()
        assert (sample.id, sample.captions, content) == (pair.name, pair.captions, pair.png)
        assert (sample.label, sample.concept) == (None, None)
    assert all(dataset.captions(i) == pair.captions for i, pair in enumerate(pairs))


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_same_first_batches(layout: str, layouts: dict[str, Path], small: Preprocess) -> None:
    augment = Augment(shift=0.1, flip=0.5)
    both = [
        Loader(diptych.data.open(layouts[name]), tokenize=tokenize, preprocess=small, batch_size=32, seed=7, augment=augment)
        for name in ("folder", layout)
    ]
    for _ in range(8):
        first, second = next(both[0]), next(both[1])
        assert first.ids == second.ids
        assert first.captions == second.captions
        assert torch.equal(first.image_BCHW, second.image_BCHW)
        assert torch.equal(first.text_BL, second.text_BL)
        assert torch.equal(first.concept_B, second.concept_B)
