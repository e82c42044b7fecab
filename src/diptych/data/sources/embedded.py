"""The sets that ship with the package, by name (``pictograms``, ``pictograms/train`` …), as ordinary datasets."""

from __future__ import annotations

from collections.abc import Sequence

from diptych.core.types import Sample
from diptych.data.sources.base import Dataset, Overrides, digest


class SetDataset(Dataset):
    """The samples of one embedded evaluation set, sorted by id."""

    def __init__(self, name: str, overrides: Overrides) -> None:
        overrides.refuse("an embedded set", "image", "caption", "label", "id", "root", "split")
        from diptych.data.sets.find import find

        found = find(name)
        super().__init__(name, f"embedded set {name!r}")
        self._samples: Sequence[Sample] = sorted(found.samples(), key=lambda sample: sample.id)
        self.ids = [sample.id for sample in self._samples]
        self.classes, self.templates, self.sealed = found.classes or None, found.templates or None, found.sealed
        if found.sealed:
            self.notes.append("a test set: never train on it")

    def sample(self, index: int) -> Sample:
        return self._samples[index]

    def fingerprint(self) -> str:
        def line(sample: Sample) -> str:
            size = len(sample.image) if isinstance(sample.image, bytes) else sample.image.stat().st_size
            return f"{sample.id}|{size}|{sample.label}|{'|'.join(sample.captions)}"

        return digest([self.kind, *map(line, self._samples)])
