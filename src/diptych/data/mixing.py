"""Several datasets as one, in given proportions."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import torch

from diptych.core.errors import UsageError
from diptych.core.types import Sample
from diptych.data.sources.base import Dataset, digest


class Mixture(Dataset):
    """Datasets one after the other; an epoch draws from each by its weight (see :func:`mix`)."""

    def __init__(self, parts: Sequence[Dataset], weights: Sequence[float]) -> None:
        super().__init__(" + ".join(part.path for part in parts), f"mixture of {len(parts)} datasets")
        self.parts, self.weights = tuple(parts), tuple(w / sum(weights) for w in weights)
        self._starts = [0]
        for part in parts:
            self._starts.append(self._starts[-1] + len(part))
        plain = [name for part in parts for name in part.ids]
        unique = len(set(plain)) == len(plain)
        self.ids = plain if unique else [f"{i}/{name}" for i, part in enumerate(parts) for name in part.ids]
        self._renamed = not unique
        self.sealed = any(part.sealed for part in parts)
        self.shards = sum(part.shards for part in parts)
        if len({part.classes for part in parts}) == 1:
            self.classes, self.templates = parts[0].classes, parts[0].templates
        shares = ", ".join(f"{weight:.0%} {part.path}" for weight, part in zip(self.weights, parts, strict=True))
        self.notes.append(f"an epoch is {shares}")

    def _find(self, index: int) -> tuple[Dataset, int]:
        part = bisect.bisect_right(self._starts, index) - 1
        return self.parts[part], index - self._starts[part]

    def sample(self, index: int) -> Sample:
        part, place = self._find(index)
        found = part[place]
        label = found.label if self.classes else None
        if not self._renamed and label == found.label:
            return found
        return Sample(self.ids[index], found.image, found.captions, label, found.concept, found.meta)

    def captions(self, index: int) -> tuple[str, ...]:
        part, place = self._find(index)
        return part.captions(place)

    def fingerprint(self) -> str:
        return digest([*(part.fingerprint() for part in self.parts), *map(str, self.weights)])

    def order(self, generator: torch.Generator) -> torch.Tensor:
        """As many places as there are samples, shared out by weight (largest remainders), each part in fresh
        permutations one after the other, all shuffled together."""
        exact = [len(self) * weight for weight in self.weights]
        counts = [int(x) for x in exact]
        for i in sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])[: len(self) - sum(counts)]:
            counts[i] += 1
        drawn = []
        for part, start, count in zip(self.parts, self._starts, counts, strict=False):
            rounds = [part.order(generator) for _ in range(-(-count // len(part)))]
            drawn.append(torch.cat([torch.empty(0, dtype=torch.int64), *rounds])[:count] + start)
        together = torch.cat(drawn)
        return together[torch.randperm(len(together), generator=generator)]


def mix(datasets: Sequence[Dataset], weights: Sequence[float] | None = None) -> Dataset:
    """Several datasets as one.

    Args:
        weights: share of an epoch that each gets (scaled to sum to 1); by default in proportion to their sizes, so that
            every sample comes once an epoch. A part with more than its size is repeated, one with less is drawn from anew.

    Raises:
        UsageError: no dataset, or weights that do not fit or are not positive.
    """
    weights = [len(dataset) for dataset in datasets] if weights is None else weights
    if not datasets or len(weights) != len(datasets) or min(weights) <= 0:
        raise UsageError(
            f"mix of {len(datasets)} datasets with weights {list(weights)}",
            "one positive weight a dataset is needed",
            "Correct the weights",
        )
    return Mixture(datasets, weights)
