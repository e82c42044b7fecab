"""What ``pocket`` gives as it ships, and after ``--tune heads``: retrieval on Flickr8k's dev split, retention on CIFAR-10's test images.

    python benchmarks/pocket_heads.py --data FOLDER

FOLDER holds ``flickr8k/{train,dev}.tar`` and ``cifar10/test.tar`` with ``cifar10/classnames.txt``. Pooled rows of the towers are
computed once and cached; training time is measured on cached rows. Prints one JSON record a line; the last lines are timings.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.rng import generator
from diptych.core.types import Record
from diptych.data.open import open as open_data
from diptych.data.sources.base import Dataset, Subset
from diptych.engine.frozen import image_rows
from diptych.engine.heads import HeadsConfig, PairRows, pair_rows, tune_heads
from diptych.evaluate.metrics import bootstrap, retrieval
from diptych.towers.dual import DualEncoder
from diptych.towers.formats.load import load


class FewCaptions(Subset):
    """The first ``count`` captions of each chosen sample."""

    def __init__(self, base: Dataset, samples: int, count: int) -> None:
        super().__init__(base, range(samples))
        self.count = count

    def captions(self, index: int) -> tuple[str, ...]:
        return super().captions(index)[: self.count]

    def fingerprint(self) -> str:
        """The base's where all its pictures are chosen: cached image rows depend on nothing else."""
        return self.base.fingerprint() if len(self) == len(self.base) else super().fingerprint()


@dataclass(frozen=True)
class Bench:
    """Everything that stays the same from one model to the next."""

    dev: PairRows
    cifar_NW: Tensor
    labels_N: Tensor
    names: list[str]
    seed: int
    command: str

    def records(self, model: DualEncoder, name: str) -> Iterator[Record]:
        """Recall at 1, 5 and 10 both ways on dev, and top-1 on CIFAR-10 test."""
        with torch.no_grad():
            image_ND = F.normalize(model.image_projection(self.dev.image_NW), dim=-1)
            flat = [index for group in self.dev.captions for index in group]
            text_MD = F.normalize(model.text_projection(self.dev.text_MW[flat]), dim=-1)
            seen_ND = F.normalize(model.image_projection(self.cifar_NW), dim=-1)
        own_M = torch.repeat_interleave(torch.arange(len(image_ND)), torch.tensor([len(group) for group in self.dev.captions]))
        own_N = torch.arange(len(image_ND))
        ways = {"text_to_image": (text_MD, image_ND, own_M, own_N), "image_to_text": (image_ND, text_MD, own_N, own_M)}
        for way, (query, gallery, mine, theirs) in ways.items():
            rank_Q = retrieval.ranks(query, gallery, mine, theirs)
            for k in (1, 5, 10):
                value = bootstrap.mean(retrieval.recall(rank_Q, k), generator(self.seed, way, k), unit_N=mine)
                chance = retrieval.recall_chance(k, len(gallery), retrieval.positives_count(mine, theirs))
                yield self.record("retrieval", "flickr8k-dev", f"{way}_recall@{k}", value, chance, name)
        hit_N = (seen_ND @ model.classifier(self.names).rows_KD.T).argmax(1) == self.labels_N
        value = bootstrap.mean(hit_N.double(), generator(self.seed, "cifar10"))
        yield self.record("zero_shot", "cifar10-test", "top1", value, 1 / len(self.names), name)

    def record(self, protocol: str, data: str, metric: str, value: bootstrap.Estimate, chance: float, name: str) -> Record:
        return Record(protocol, data, metric, value.value, value.interval, value.n, chance, self.seed, name, self.command)


def labelled(model: DualEncoder, path: Path, cache: Path | None) -> tuple[Tensor, Tensor]:
    """Pooled rows and labels of a set with classes."""
    data = open_data(path)
    kept, rows_NW, _ = image_rows(model, data, cache)
    labels = [data[index].label for index in kept]
    return rows_NW, torch.tensor(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder for pooled rows (default: the user's cache)")
    arguments = parser.parse_args()
    cache, seed = arguments.cache, arguments.seed
    model = load(arguments.model)
    names = (arguments.data / "cifar10" / "classnames.txt").read_text(encoding="utf-8").split()
    start = time.monotonic()
    dev = pair_rows(model, open_data(arguments.data / "flickr8k" / "dev.tar"), cache)
    cifar_NW, labels_N = labelled(model, arguments.data / "cifar10" / "test.tar", cache)
    command = f"python benchmarks/pocket_heads.py --data DATA --seed {seed}"
    bench = Bench(dev, cifar_NW, labels_N, names, seed, command)
    train = open_data(arguments.data / "flickr8k" / "train.tar")
    pair_rows(model, train, cache)
    timings = {"encode_or_read_cache": time.monotonic() - start}
    for record in bench.records(model, arguments.model):
        print(json.dumps(record.as_dict()), flush=True)
    parts = {"6000x2": FewCaptions(train, 6000, 2), "2400x5": FewCaptions(train, 2400, 5), "all": train}
    for part, data in parts.items():
        pair_rows(model, data, cache)
        start = time.monotonic()
        tuned = tune_heads(model, data, config=HeadsConfig(), seed=seed, cache=cache)
        timings[part] = time.monotonic() - start
        for record in bench.records(tuned, f"{arguments.model}, heads on {part}"):
            print(json.dumps(record.as_dict()), flush=True)
    print(json.dumps({"seconds": {name: round(value, 1) for name, value in timings.items()}, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
