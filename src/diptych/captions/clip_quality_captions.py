"""CLIP with Quality Captions, as a study: what captions that belong to other pictures do to the patch tokens.

Paper: Vasu et al., "CLIP with Quality Captions: A Strong Pretraining for Vision Tasks", arXiv:2405.08911, sections 3 and 4: plain CLIP
trained on better aligned captions, its image tower then tried on segmentation, detection and depth.
Code: none of its own (training as in https://github.com/apple/ml-mobileclip).
Relations: the objective is ``clip`` in both arms; ``alip`` weighs down such pairs by their own consistency.

For the samples of a set, a share p of which loses its captions, with random numbers from a seed::

    chosen = the first round(p * N) samples of a random order
    captions of chosen[i] = captions of chosen[i + 1]      # in a ring, so that no caption is lost or doubled

The paper compares data sets of different alignment (web texts against synthetic captions of the same pictures); here alignment is the only
thing that differs, and it is known exactly. A sample that gets another's captions gets its concept too, which says which texts are equal;
its picture, label and the rest of its metadata stay, with ``shuffled`` set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from pydantic import BaseModel, ConfigDict, Field

from diptych.core.card import Card
from diptych.core.rng import generator
from diptych.core.types import Sample
from diptych.data.sources.base import Dataset, digest

CARD = Card(
    id="clip-quality-captions",
    name="CLIP with Quality Captions",
    family="study",
    paper="CLIP with Quality Captions: A Strong Pretraining for Vision Tasks, arXiv:2405.08911",
    where="sections 3 and 4, caption quality against dense prediction",
    claim="well aligned captions alone make CLIP's tower good at dense prediction",
    published="12.1 % higher mIoU and 11.5 % lower depth RMSE than masked image modelling with ViT-B/16 (abstract)",
)


class Options(BaseModel):
    """Settings of :func:`clip_quality_captions`.

    Args:
        share: of the samples whose captions go to another sample.
        seed: which samples, and whose captions they get.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    share: float = Field(default=0.5, ge=0.0, le=1.0)
    seed: int = 0


class Shuffled(Dataset):
    """A data set in which some samples have another sample's captions; see :func:`shuffled`."""

    def __init__(self, base: Dataset, share: float, seed: int) -> None:
        super().__init__(base.path, f"{base.kind}, {share:.0%} of its captions shuffled")
        self.base, self.share, self.seed = base, share, seed
        self.ids, self.classes, self.templates = base.ids, base.classes, base.templates
        self.sealed, self.shards = base.sealed, base.shards
        chosen = torch.randperm(len(base), generator=generator(seed, "shuffled captions"))[: round(share * len(base))].tolist()
        self.source = dict(zip(chosen, [*chosen[1:], *chosen[:1]], strict=True)) if len(chosen) > 1 else {}

    def sample(self, index: int) -> Sample:
        own, source = self.base[index], self.source.get(index, index)
        if source == index:
            return own
        concept = None if own.concept is None else self.base[source].concept
        return replace(own, captions=self.base.captions(source), concept=concept, meta={**own.meta, "shuffled": True})

    def captions(self, index: int) -> tuple[str, ...]:
        return self.base.captions(self.source.get(index, index))

    def fingerprint(self) -> str:
        return digest([self.base.fingerprint(), "shuffled", str(self.share), str(self.seed)])


def shuffled(dataset: Dataset, share: float, seed: int = 0) -> Dataset:
    """``dataset`` with the captions of a share of its samples passed round among them; share 0 changes nothing."""
    return Shuffled(dataset, share, seed)


def clip_quality_captions(*, share: float = 0.5, seed: int = 0) -> Callable[[Dataset], Dataset]:
    """What gives a data set its shuffled form; see :class:`Options`."""
    return lambda dataset: shuffled(dataset, share, seed)
