"""Batches are a pure function of data, seed and step: at any number of ranks and workers, and after any interruption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn_pairs import Pair, encode, noise_image, tokenize, write_folder, write_tars

import diptych.data
from diptych.core.errors import DiptychError, UsageError
from diptych.core.types import Batch, Preprocess, Sample
from diptych.data.augment import Augment
from diptych.data.images import image_batches
from diptych.data.loader import Loader
from diptych.data.sources.base import Dataset

AUGMENT = Augment(shift=0.2, scale=(0.8, 1.2), flip=0.5, brightness=0.2, background=0.5)


class Listed(Dataset):
    """Samples from a list."""

    def __init__(self, samples: list[Sample]) -> None:
        super().__init__("listed", "list of samples")
        self.samples = samples
        self.ids = [sample.id for sample in samples]

    def sample(self, index: int) -> Sample:
        return self.samples[index]

    def fingerprint(self) -> str:
        return "0" * 16


def loader(dataset: Dataset, preprocess: Preprocess, **options: Any) -> Loader:
    return Loader(dataset, **{"tokenize": tokenize, "preprocess": preprocess, "batch_size": 24, "seed": 3, **options})


def same(one: Batch, other: Batch) -> bool:
    tensors = all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("image_BCHW", "text_BL", "concept_B"))
    drawn = one.drawn.keys() == other.drawn.keys() and all(torch.equal(one.drawn[name], other.drawn[name]) for name in one.drawn)
    return tensors and drawn and (one.ids, one.captions) == (other.ids, other.captions)


@pytest.fixture
def dataset(layouts: dict[str, Path]) -> Dataset:
    return diptych.data.open(layouts["tars"])


def test_an_epoch_is_every_sample_once(dataset: Dataset, small: Preprocess) -> None:
    batches = loader(dataset, small, batch_size=25)
    first = [name for _ in range(8) for name in next(batches).ids]
    assert batches.epoch == 1
    second = [name for _ in range(8) for name in next(batches).ids]
    assert sorted(first) == sorted(second) == list(dataset.ids)
    assert first != second


def test_shapes_and_kinds(dataset: Dataset, small: Preprocess) -> None:
    batch = next(loader(dataset, small))
    assert batch.image_BCHW.shape == (24, 3, 12, 12)
    assert batch.image_BCHW.dtype == torch.uint8
    assert batch.text_BL.dtype == batch.concept_B.dtype == torch.int64
    assert len(batch) == len(batch.captions) == 24
    assert batch.drawn == {}


@pytest.mark.parametrize("options", [{"workers": 2}, {"workers": 3, "keep_in_memory": False}, {"keep_in_memory": False}])
def test_workers_and_memory_change_nothing(dataset: Dataset, small: Preprocess, options: dict[str, Any]) -> None:
    plain = loader(dataset, small, augment=AUGMENT)
    with loader(dataset, small, augment=AUGMENT, **options) as other:
        assert all(same(next(plain), next(other)) for _ in range(20))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("at", [0, 1, 5, 8, 13])
def test_resume_is_exact(dataset: Dataset, small: Preprocess, workers: int, at: int) -> None:
    whole = loader(dataset, small, augment=AUGMENT)
    with loader(dataset, small, augment=AUGMENT, workers=workers) as stopped:
        for _ in range(at):
            assert same(next(whole), next(stopped))
        state = json.loads(json.dumps(stopped.state_dict()))
    with loader(dataset, small, augment=AUGMENT, workers=workers) as resumed:
        next(resumed)
        resumed.load_state_dict(state)
        assert resumed.step == at
        assert all(same(next(whole), next(resumed)) for _ in range(10))


def test_state_of_other_data_or_settings_is_refused(dataset: Dataset, small: Preprocess) -> None:
    state = loader(dataset, small).state_dict()
    others = [
        loader(dataset, small, seed=4),
        loader(dataset, small, batch_size=12),
        loader(dataset, small, augment=AUGMENT),
        loader(dataset, small, caption="first"),
        loader(dataset.select(range(100)), small),
    ]
    for other in others:
        with pytest.raises(DiptychError, match="resume with"):
            other.load_state_dict(state)


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_take_slices_of_one_global_batch(dataset: Dataset, small: Preprocess, world: int) -> None:
    whole = loader(dataset, small, augment=AUGMENT, crop_text=False)
    ranks = [loader(dataset, small, augment=AUGMENT, crop_text=False, rank=rank, world=world) for rank in range(world)]
    for _ in range(10):
        one, parts = next(whole), [next(rank) for rank in ranks]
        assert one.ids == tuple(name for part in parts for name in part.ids)
        assert one.captions == tuple(caption for part in parts for caption in part.captions)
        for name in ("image_BCHW", "text_BL", "concept_B"):
            assert torch.equal(getattr(one, name), torch.cat([getattr(part, name) for part in parts]))
        for name in one.drawn:
            assert torch.equal(one.drawn[name], torch.cat([part.drawn[name] for part in parts]))


def test_captions_first_random_all_none(dataset: Dataset, small: Preprocess, pairs: list[Pair]) -> None:
    words = {pair.name: pair.captions for pair in pairs}
    first = next(loader(dataset, small, caption="first"))
    assert first.captions == tuple(words[name][0] for name in first.ids)
    rows = [(name, c) for batch in _some(loader(dataset, small), 40) for name, c in zip(batch.ids, batch.captions, strict=True)]
    assert all(caption in words[name] for name, caption in rows)
    two = [caption == words[name][1] for name, caption in rows if len(words[name]) == 2]
    assert sum(two) / len(two) == pytest.approx(0.5, abs=0.1)
    every = loader(dataset, small, caption="all", batch_size=1)
    seen = sorted((batch.ids[0], batch.captions[0]) for batch in _some(every, every.steps_per_epoch))
    assert seen == sorted((pair.name, caption) for pair in pairs for caption in pair.captions)
    none = next(loader(dataset, small, caption="none"))
    assert none.captions == ()
    assert none.text_BL.shape == (24, 0)


def _some(batches: Loader, count: int) -> list[Batch]:
    return [next(batches) for _ in range(count)]


def test_text_is_cropped_to_the_longest_and_tokenized_once(dataset: Dataset, small: Preprocess) -> None:
    asked: list[str] = []

    def counting(captions: list[str]) -> torch.Tensor:
        asked.extend(captions)
        return tokenize(captions)

    batches = loader(dataset, small, tokenize=counting)
    for batch in _some(batches, 20):
        whole = tokenize(list(batch.captions))
        longest = max(len(caption.split()) for caption in batch.captions)
        assert batch.text_BL.shape[1] == longest
        assert torch.equal(batch.text_BL, whole[:, :longest])
    assert len(asked) == len(set(asked))
    assert next(loader(dataset, small, tokenize=None)).text_BL.shape == (24, 0)
    assert next(loader(dataset, small, tokenize=None)).captions


def test_crop_keeps_the_closing_token_that_doubles_as_padding(dataset: Dataset, small: Preprocess) -> None:
    class Closing:
        pad_id, frame = 9999, (9998, 9999)

        def __call__(self, captions: list[str]) -> torch.Tensor:
            text = tokenize(captions)
            return torch.where(text == 0, 9999, text)

    batch = next(loader(dataset, small, tokenize=Closing()))
    longest = max(len(caption.split()) for caption in batch.captions)
    assert batch.text_BL.shape[1] == longest + 1


def picture(name: str, captions: tuple[str, ...], concept: str | None = None, good: bool = True) -> Sample:
    return Sample(name, encode(noise_image(len(name))) if good else b"broken", captions, concept=concept)


def test_equal_concepts_or_captions_are_positives(small: Preprocess) -> None:
    samples = [picture("a", ("x",), "k"), picture("b", ("y",), "k"), picture("c", ("z",)), picture("d", ("z",)), picture("e", ("k",))]
    batch = next(loader(Listed(samples), small, batch_size=5))
    concept = dict(zip(batch.ids, batch.concept_B.tolist(), strict=True))
    assert concept["a"] == concept["b"]
    assert concept["c"] == concept["d"]
    assert len(set(concept.values())) == 3
    every = next(loader(Listed([picture("a", ("x", "y")), picture("b", ("z",))]), small, batch_size=3, caption="all"))
    same_picture = [value for name, value in zip(every.ids, every.concept_B.tolist(), strict=True) if name == "a"]
    assert len(same_picture) == 2
    assert len(set(same_picture)) == 1


def with_broken(broken: set[int], count: int = 100) -> Listed:
    return Listed([picture(f"s{i:03d}", (f"caption {i}",), good=i not in broken) for i in range(count)])


@pytest.mark.parametrize("options", [{}, {"workers": 2}, {"keep_in_memory": False}])
def test_broken_samples_are_replaced_counted_and_listed(small: Preprocess, options: dict[str, Any]) -> None:
    plain = loader(with_broken({5, 50}), small, batch_size=20)
    with loader(with_broken({5, 50}), small, batch_size=20, **options) as batches:
        for _ in range(10):
            one, other = next(plain), next(batches)
            assert same(one, other)
            assert len(one) == 20
            assert not {"s005", "s050"} & set(one.ids)
        assert batches.broken.keys() == {"s005", "s050"}
        assert "not a picture" in batches.broken["s005"]


def test_stand_ins_differ_by_sample_and_epoch(small: Preprocess) -> None:
    reader = loader(with_broken({5, 50}), small)._reader
    drawn = {(index, epoch): reader.read_or_replace(index, 3, epoch).id for index in (5, 50) for epoch in range(6)}
    assert len(set(drawn.values())) > 6
    assert drawn == {(index, epoch): reader.read_or_replace(index, 3, epoch).id for index, epoch in drawn}


def test_too_many_broken_stop_the_run(small: Preprocess) -> None:
    batches = loader(with_broken(set(range(0, 60, 10))), small, batch_size=20)
    with pytest.raises(DiptychError, match="6 of 100 samples cannot be read"):
        _some(batches, 5)
    _some(loader(with_broken(set(range(0, 60, 10))), small, batch_size=20, max_broken=0.07), 10)
    with pytest.raises(DiptychError):
        next(loader(with_broken(set(range(100))), small, batch_size=20))


def test_a_large_set_that_is_all_but_broken_stops_early(small: Preprocess) -> None:
    batches = loader(with_broken(set(range(0, 950)), 1000), small, batch_size=40, max_broken=0.96)
    with pytest.raises(DiptychError):
        next(batches)


def test_samples_without_words_are_broken(small: Preprocess) -> None:
    samples = [picture(f"s{i:02d}", () if i == 3 else (f"caption {i}",)) for i in range(30)]
    batches = loader(Listed(samples), small, batch_size=30)
    next(batches)
    assert batches.broken == {"s03": "it has no caption"}


def test_a_random_ground_needs_alpha_and_gets_it(small: Preprocess) -> None:
    clear = Listed([Sample(f"s{i}", encode(noise_image(i, mode="RGBA")), ("x",)) for i in range(8)])
    plain = next(loader(clear, small, batch_size=8))
    varied = next(loader(clear, small, batch_size=8, augment=Augment(background=1.0)))
    assert varied.image_BCHW.shape == (8, 3, 12, 12)
    assert plain.ids == varied.ids
    assert not torch.equal(plain.image_BCHW, varied.image_BCHW)


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 201}, {"batch_size": 0}, {"world": 5}, {"rank": 2, "world": 2}, {"caption": "best"}, {"keep_in_memory": "yes"}],
)
def test_wrong_calls_are_usage_errors(dataset: Dataset, small: Preprocess, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        loader(dataset, small, **options)


def test_mix_draws_by_weight(tmp_path: Path, small: Preprocess, pairs: list[Pair]) -> None:
    one = diptych.data.open(write_folder(tmp_path / "one", pairs[:60]))
    two = diptych.data.open(write_tars(tmp_path / "two", pairs[60:]))
    both = diptych.data.mix([one, two])
    assert sorted(name for batch in _some(loader(both, small, batch_size=20), 10) for name in batch.ids) == [pair.name for pair in pairs]
    heavy = diptych.data.mix([one, two], [3, 1])
    epoch = [name for batch in _some(loader(heavy, small, batch_size=20), 10) for name in batch.ids]
    firsts = [name for name in epoch if name in set(one.ids)]
    assert len(firsts) == 150
    assert {firsts.count(name) for name in one.ids} == {2, 3}
    assert len(set(epoch) & set(two.ids)) == 50
    assert diptych.data.mix([one, one]).ids[60] == "1/p0000"
    with pytest.raises(UsageError):
        diptych.data.mix([one, two], [1, 0])


def test_image_batches_are_every_picture_in_order(dataset: Dataset, small: Preprocess) -> None:
    plain = list(image_batches(dataset, small, 64))
    threads = list(image_batches(dataset, small, 64, workers=2))
    assert [i for indices, _ in plain for i in indices] == list(range(200))
    assert all(torch.equal(a[1], b[1]) for a, b in zip(plain, threads, strict=True))
    broken: list[tuple[str, str]] = []
    kept = [i for indices, _ in image_batches(with_broken({1, 2}, 5), small, 2, broken=broken) for i in indices]
    assert kept == [0, 3, 4]
    assert [name for name, _ in broken] == ["s001", "s002"]
    with pytest.raises(DiptychError):
        list(image_batches(with_broken({1}, 5), small, 2))
