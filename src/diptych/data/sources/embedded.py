"""The sets that ship with the package, by name (``pictograms``, ``pictograms/train`` …), as ordinary datasets."""

from __future__ import annotations

from collections.abc import Sequence

from diptych.core.types import Sample
from diptych.data.sources.base import Dataset, Overrides, digest


class SetDataset(Dataset):
    """The samples of one embedded evaluation set, sorted by id; a set that is made on the fly stays so."""

    def __init__(self, name: str, overrides: Overrides) -> None:
        overrides.refuse("an embedded set", "image", "caption", "label", "id", "root", "split")
        from diptych.data.sets.find import find

        found = find(name)
        super().__init__(name, f"embedded set {name!r}")
        given = found.samples()
        self._made = given if isinstance(given, Dataset) else None
        self._samples: Sequence[Sample] = self._made or sorted(given, key=lambda sample: sample.id)
        self.ids = self._made.ids if self._made else [sample.id for sample in self._samples]
        self.classes, self.templates, self.sealed = found.classes or None, found.templates or None, found.sealed
        if found.sealed:
            self.notes.append("a test set: never train on it")

    def sample(self, index: int) -> Sample:
        return self._samples[index]

    def captions(self, index: int) -> tuple[str, ...]:
        return self._made.captions(index) if self._made else self._samples[index].captions

    def fingerprint(self) -> str:
        if self._made:
            return self._made.fingerprint()

        def line(sample: Sample) -> str:
            size = len(sample.image) if isinstance(sample.image, bytes) else sample.image.stat().st_size
            return f"{sample.id}|{size}|{sample.label}|{'|'.join(sample.captions)}"

        return digest([self.kind, *map(line, self._samples)])
