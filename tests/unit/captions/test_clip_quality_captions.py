"""The study's shuffled captions: as the twin says, no caption lost, pictures untouched, the same each time."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from diptych.captions.clip_quality_captions import clip_quality_captions, shuffled
from diptych.core.rng import generator
from diptych.core.types import Sample
from diptych.data.sources.base import Dataset

REFERENCE = runpy.run_path(str(Path(__file__).parents[2] / "reference" / "clip_quality_captions.py"))["reference"]


class Numbers(Dataset):
    """Twenty samples whose caption is their number; the concept too, where asked for."""

    def __init__(self, concepts: bool = True) -> None:
        super().__init__("numbers", "numbers")
        self.ids = [f"{i:02d}" for i in range(20)]
        self.concepts = concepts

    def sample(self, index: int) -> Sample:
        return Sample(self.ids[index], bytes([index]), (str(index),), index, f"c{index}" if self.concepts else None, {"at": index})

    def fingerprint(self) -> str:
        return "numbers"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_equals_the_twin_and_loses_nothing(share):
    data = shuffled(Numbers(), share, seed=3)
    captions = [sample.captions[0] for sample in data]
    order = torch.randperm(20, generator=generator(3, "shuffled captions")).tolist()
    assert captions == REFERENCE([str(i) for i in range(20)], order, share)
    assert sorted(captions, key=int) == [str(i) for i in range(20)]
    moved = [i for i in range(20) if captions[i] != str(i)]
    assert len(moved) == round(share * 20)
    for i, sample in enumerate(data):
        assert (sample.id, sample.image, sample.label, sample.meta["at"]) == (f"{i:02d}", bytes([i]), i, i)
        assert sample.concept == f"c{sample.captions[0]}"
        assert data.captions(i) == sample.captions
        assert sample.meta.get("shuffled", False) == (i in moved)


def test_the_seed_decides_and_the_fingerprint_tells():
    def captions(share, seed):
        return [sample.captions for sample in clip_quality_captions(share=share, seed=seed)(Numbers(concepts=False))]

    assert captions(0.5, 1) == captions(0.5, 1) != captions(0.5, 2)
    prints = {shuffled(Numbers(), share, seed).fingerprint() for share in (0.0, 0.5) for seed in (0, 1)} | {"numbers"}
    assert len(prints) == 5
    assert all(sample.concept is None for sample in shuffled(Numbers(concepts=False), 1.0))
