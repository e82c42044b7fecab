"""Data and measures of the claims about words: captions that were shuffled, composed scenes, and captions that are false of them."""

from __future__ import annotations

import functools
import io
import itertools
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from common import Values
from measures import texts
from PIL import Image
from starts import warm

from diptych.core.rng import generator, seed_for
from diptych.core.types import Sample
from diptych.data.open import open as open_data
from diptych.data.pictograms.scenes import SceneConfig, Scenes
from diptych.data.sources.base import Dataset, digest
from diptych.engine.run import DataConfig, Run
from diptych.evaluate.metrics.retrieval import ranks

ANIMALS = ("dog", "cat", "horse", "elephant", "fish", "turtle", "owl", "butterfly", "snail", "penguin")
FOOD = ("pineapple", "banana", "pizza", "carrot", "ice cream", "mushroom")
THINGS = ("automobile", "bicycle", "sailboat", "airplane", "house", "rocket", "guitar", "key")
NAMES = (*ANIMALS, *FOOD, *THINGS)
FEW = NAMES[::2]


def arm(data: DataConfig, **settings: Any) -> Run:
    """Both towers trained on from the warm start, on other data than usual."""
    return warm(**settings).model_copy(update={"data": data})


class Unnamed(Dataset):
    """A set without its concept ids: pairs as the web has them, where only equal captions are known to belong together."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "pairs alone")
        self.base = open_data(name)
        self.ids = self.base.ids

    def sample(self, index: int) -> Sample:
        return replace(self.base.sample(index), concept=None, label=None)

    def fingerprint(self) -> str:
        return digest([self.base.fingerprint(), "unnamed"])


class Shuffled(Dataset):
    """A set of which a share of the captions belongs to other samples; each sample keeps a clean caption as ``meta["synthetic"]``.

    Concepts are left out: nobody who has noisy captions knows them. Rows of an equal caption are positives, as in any such data.

    Args:
        share: of the samples, whose captions are exchanged with one another, drawn from ``seed``.
    """

    def __init__(self, name: str, share: float, seed: int = 0) -> None:
        super().__init__(name, "shuffled captions")
        self.base, self.share, self.seed = open_data(name), share, seed
        self.ids = self.base.ids
        n = len(self.ids)
        moved = torch.randperm(n, generator=generator(seed, "moved"))[: round(share * n)]
        self.source = torch.arange(n)
        self.source[moved] = moved.roll(1)
        self.place = torch.rand(n, 2, generator=generator(seed, "place")).tolist()

    def sample(self, index: int) -> Sample:
        own, from_where = self.base.sample(index), self.base.sample(int(self.source[index]))
        raw, clean = self.place[index]
        picked = from_where.captions[int(raw * len(from_where.captions))]
        synthetic = own.captions[int(clean * len(own.captions))]
        return replace(own, captions=(picked,), concept=None, label=None, meta={**own.meta, "synthetic": synthetic})

    def fingerprint(self) -> str:
        return digest([self.base.fingerprint(), str(self.share), str(self.seed)])


def scenes(split: str, count: int, seed: int = 0, **config: Any) -> Scenes:
    """Scenes of two large things out of 24, at 64 px; unless ``config`` says otherwise."""
    return Scenes(split, count, SceneConfig(**{"count": (2, 2), "sides": (0.4, 0.55), "concepts": NAMES, **config}), seed)


class LongScenes(Dataset):
    """Scenes told at length first, then in short: the relations, and the names alone."""

    def __init__(self, split: str, count: int, seed: int = 0, forms: tuple[str, ...] = ("long", "relations", "names")) -> None:
        super().__init__(f"long-scenes/{split}", "scenes told at length")
        self.base, self.forms = scenes(split, count, seed), forms
        self.ids = self.base.ids

    def captions(self, index: int) -> tuple[str, ...]:
        scene = self.base.scene(index)
        return tuple(dict.fromkeys(scene.caption(form) for form in self.forms))

    def sample(self, index: int) -> Sample:
        return replace(self.base.sample(index), captions=self.captions(index))

    def fingerprint(self) -> str:
        return digest([self.base.fingerprint(), *self.forms])


def drawing(sample: Sample) -> Image.Image:
    """A sample's picture in memory, with its transparency."""
    with Image.open(io.BytesIO(sample.image) if isinstance(sample.image, bytes) else sample.image) as opened:
        return opened.convert("RGBA")


class Placed(Dataset):
    """A set whose pictures are each placed on a larger transparent ground, smaller than it and at a place of their own.

    Args:
        share: of the ground's side, for the picture's longer side.
    """

    def __init__(self, name: str, share: float, seed: int = 0) -> None:
        super().__init__(name, "pictures on a larger ground")
        self.base, self.share, self.seed = open_data(name), share, seed
        self.ids = self.base.ids
        self.place = torch.rand(len(self.ids), 2, generator=generator(seed, "ground")).tolist()

    def ground(self, index: int, side: int) -> Image.Image:
        """What lies under the drawing of a sample."""
        return Image.new("RGBA", (side, side), (255, 255, 255, 0))

    def sample(self, index: int) -> Sample:
        own = self.base.sample(index)
        image = drawing(own)
        side = round(max(image.size) / self.share)
        ground, (x, y) = self.ground(index, side), self.place[index]
        ground.alpha_composite(image, (round(x * (side - image.width)), round(y * (side - image.height))))
        made = io.BytesIO()
        ground.save(made, "PNG", compress_level=1)
        return replace(own, image=made.getvalue())

    def fingerprint(self) -> str:
        return digest([self.base.fingerprint(), str(self.share), str(self.seed)])


class Cluttered(Placed):
    """:class:`Placed` on a patchwork of pieces of other drawings, of which no caption speaks: four by four tiles of the ground's side."""

    TILES = 4

    def __init__(self, name: str, share: float, seed: int = 0) -> None:
        super().__init__(name, share, seed)
        self.concepts = [self.base.sample(i).concept for i in range(len(self.ids))]

    def ground(self, index: int, side: int) -> Image.Image:
        """Each tile a quarter of another concept's drawing, at random; blank where the same concept was drawn."""
        draw, cell = random.Random(seed_for(self.seed, "clutter", index)), -(-side // self.TILES)
        ground = Image.new("RGBA", (side, side), (255, 255, 255, 255))
        for column, row in itertools.product(range(self.TILES), repeat=2):
            other = draw.randrange(len(self.ids))
            x, y = draw.randrange(cell), draw.randrange(cell)
            if self.concepts[other] != self.concepts[index]:
                tile = drawing(self.base.sample(other)).resize((2 * cell, 2 * cell)).crop((x, y, x + cell, y + cell))
                ground.alpha_composite(tile, (column * cell, row * cell))
        return ground

    def fingerprint(self) -> str:
        return digest([super().fingerprint(), "cluttered"])


@functools.cache
def held(kind: type[Dataset] | Any, *arguments: Any, **named: Any) -> tuple[Sample, ...]:
    """The samples of a data set, read once."""
    return tuple(kind(*arguments, **named))


def told_apart(model: Any, samples: tuple[Sample, ...], label: str = "swapped-caption accuracy") -> dict[str, Values]:
    """Whether the caption is nearer to its picture than the caption made false; also for each kind of swap."""
    usable = [sample for sample in samples if sample.meta["swapped"]]
    image_ND = model.encode_image(usable)
    true_ND, false_ND = texts(model, [s.captions[0] for s in usable]), texts(model, [s.meta["swapped"] for s in usable])
    hit_N = ((image_ND * true_ND).sum(1) > (image_ND * false_ND).sum(1)).double()
    found = {label: Values.of(hit_N)}
    for kind in sorted({sample.meta["swap"] for sample in usable}):
        chosen = torch.tensor([sample.meta["swap"] == kind for sample in usable])
        if not chosen.all():
            found[f"{label}, {kind}"] = Values.of(hit_N[chosen], torch.arange(len(usable))[chosen])
    return found


def recall(model: Any, samples: tuple[Sample, ...], form: int = 0, k: int = 1, label: str = "") -> Mapping[str, Values]:
    """Recall at ``k`` both ways with each picture's caption of that place; equal captions are all right answers."""
    image_ND, words = model.encode_image(list(samples)), [sample.captions[form] for sample in samples]
    text_ND = texts(model, words)
    number = {word: i for i, word in enumerate(dict.fromkeys(words))}
    group_N = torch.tensor([number[word] for word in words])
    return {
        f"{label}image to text recall@{k}": Values.of((ranks(image_ND, text_ND, group_N, group_N) < k).double()),
        f"{label}text to image recall@{k}": Values.of((ranks(text_ND, image_ND, group_N, group_N) < k).double()),
    }
