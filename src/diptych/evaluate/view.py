"""What a protocol may see beside the rows of the test pictures: changed pictures, patch tokens, the set's other splits.

Shapes: N pictures of the question, M of them, C channels, H and W of the model's input, D joint width, P patches, E the tower's width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from diptych.core.errors import DiptychError, UsageError
from diptych.core.rng import generator
from diptych.core.types import Sample
from diptych.data import seal
from diptych.evaluate.features import Features
from diptych.evaluate.material import Material, Table, material, table

Change = Callable[[Tensor], Tensor]
FITTED = ("train", "validation")  # roles that something is fitted on


@dataclass(frozen=True, slots=True)
class Split:
    """Another split of the set that is evaluated, encoded by the same model: what may be fitted on, or what is unknown."""

    image_ND: Tensor
    table: Table
    classes: tuple[str, ...]
    material: Material

    def take(self, index: Tensor) -> Split:
        """Only the samples at ``index``."""
        return Split(self.image_ND[index], self.table.take(index), self.classes, self.material.take(index))


class View:
    """The model and the pictures behind a question.

    Args:
        features: the model with its cached rows.
        data: the set.
        index_N: which of its samples the question is about.
        seed: of all that a protocol draws.
    """

    def __init__(self, features: Features, data: Material, index_N: Tensor, seed: int) -> None:
        self.features, self.data, self.index_N, self.seed = features, data, index_N, seed

    @property
    def model(self) -> Any:
        """The model that is evaluated."""
        return self.features.model

    def generator(self, *streams: str) -> Generator:
        """Random numbers of this set and ``streams``, the same at every call and for every model."""
        return generator(self.seed, "protocol", self.data.name, *streams)

    def samples(self, index_M: Tensor | None = None) -> list[Sample]:
        """The question's samples (those at ``index_M``)."""
        chosen = self.index_N if index_M is None else self.index_N[index_M]
        return [self.data.source[i] for i in chosen.tolist()]

    def pixels(self, index_M: Tensor | None = None) -> Tensor:
        """uint8 ``image_MCHW`` at the model's size."""
        from diptych.towers.encode import pixels

        return torch.stack([pixels(sample, self.model.config.preprocess) for sample in self.samples(index_M)])

    def changed(self, name: str, change: Change, index_M: Tensor | None = None, batch: int = 256) -> Tensor:
        """Unit rows ``image_MD`` of pictures after ``change``, computed once a model, set, choice and name.

        Args:
            name: names the change and all its settings; other settings, other name.
            change: from uint8 ``(B, C, H, W)`` at the model's size to the same shape and type. It is called on consecutive batches in
                order, so a generator that it holds gives every model the same pictures.
        """
        chosen = self.index_N if index_M is None else self.index_N[index_M]

        def compute() -> Tensor:
            parts = []
            for part in chosen.split(batch):
                samples = [self.data.source[i] for i in part.tolist()]
                parts.append(self.encode(samples, change))
            return torch.cat(parts)

        return self.features.other(f"changed|{name}|{self._key(chosen)}", len(chosen), compute)

    def encode(self, samples: list[Sample], change: Change) -> Tensor:
        """Unit rows of ``samples`` after ``change``, nothing kept."""
        from diptych.towers.encode import pixels

        image_BCHW = torch.stack([pixels(sample, self.model.config.preprocess) for sample in samples])
        made_BCHW = change(image_BCHW)
        if made_BCHW.shape != image_BCHW.shape or made_BCHW.dtype != torch.uint8:
            raise ValueError(f"a change made {made_BCHW.dtype} {tuple(made_BCHW.shape)} of uint8 {tuple(image_BCHW.shape)}")
        return self.model.encode_image(made_BCHW, batch_size=self.features.batch_size)

    @property
    def has_tokens(self) -> bool:
        """The model gives patch tokens; one that only encodes does not."""
        return hasattr(self.model, "image_features")

    @torch.no_grad()
    def tokens(self, samples: list[Sample] | None = None, batch: int = 128) -> Iterator[Tensor]:
        """Patch tokens ``token_BPE`` float32 of consecutive batches of the question's samples (or of ``samples``)."""
        from diptych.towers.encode import evaluating, pixels

        if not self.has_tokens:
            why = "it only encodes whole pictures, and this protocol looks at their patches"
            raise UsageError(f"model {self.model.config.name!r}", why, "Take the model itself, or leave this protocol out")
        chosen = self.samples() if samples is None else samples
        with evaluating(self.model):
            for start in range(0, len(chosen), batch):
                image = torch.stack([pixels(sample, self.model.config.preprocess) for sample in chosen[start : start + batch]])
                image = image.to(self.model.device)
                yield self.model.image_features(image, taps=frozenset({"image.tokens"}))[1]["image.tokens"].float().cpu()

    def has(self, role: str) -> bool:
        """The set names a companion for ``role``."""
        return role in self.data.companions

    def companion(self, role: str, limit: int | None = None) -> Split:
        """The companion set of one role, with its rows; unreadable pictures are left out.

        Args:
            role: ``"train"`` and ``"validation"`` may be fitted on, and are checked to hold no test picture; other roles (``"unknown"`` …)
                are whatever the set says.
            limit: at most this many samples, drawn by the seed.

        Raises:
            UsageError: the set has no such companion.
            SealedError: what is to be fitted on holds test pictures.
        """
        if not self.has(role):
            known = ", ".join(sorted(self.data.companions)) or "none"
            raise UsageError(f"set {self.data.name!r}", f"it has no {role} companion (it has: {known})", "Choose another set or protocol")
        found = material(self.data.companions[role])
        if role in FITTED:
            seal.check(found.source, self.data.source, f"{role} split {found.name!r}", sealed=found.sealed)
        if limit is not None and limit < len(found.source):
            found = found.take(torch.randperm(len(found.source), generator=self.generator("limit", role))[:limit].sort().values)
        rows_ND = self.features.images(found.source, found.fingerprint)
        kept_N = (~rows_ND.isnan().any(1)).nonzero()[:, 0]
        if not len(kept_N):
            raise DiptychError(
                f"set {found.name!r}", "none of its pictures can be decoded", f"Look at it with `diptych inspect {found.name}`"
            )
        return Split(rows_ND[kept_N], table(found.source).take(kept_N), found.classes, found.take(kept_N))

    def _key(self, chosen: Tensor) -> str:
        from diptych.evaluate.material import hash_of

        preprocess = str(self.model.config.preprocess)
        return hash_of([self.data.fingerprint, str(self.seed), preprocess, *map(str, chosen.tolist())])
