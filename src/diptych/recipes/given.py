"""What adaptation is given, from data that opens: which pictures are labelled, which are measured on, and their rows and words.

Shapes: S labelled pictures, U pictures without labels, K classes, D joint width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diptych.adapt.parts.shots import Shots
from diptych.adapt.parts.work import Pictures, Work
from diptych.core.errors import DiptychError, UsageError
from diptych.core.rng import generator
from diptych.core.types import Sample
from diptych.data import seal
from diptych.evaluate.features import Features
from diptych.evaluate.material import Material, material, table
from diptych.evaluate.protocols.zero_shot import DEFAULT_TEMPLATES, class_rows

HELD = 0.3  # share of each class that is measured on, where the data has no test split
KEEP_BYTES = 1 << 29  # decoded pictures that stay in memory


def splits(data: Any, test: Any, seed: int, labels: bool = True) -> tuple[Material, Material]:
    """What is fitted on, and what is measured on.

    Args:
        labels: whether the method looks at labelled pictures; else none is taken, and all of the data is measured on.
    """
    given = material(data)
    if not given.classes:
        raise UsageError(f"data {given.name!r}", "it has no classes", "Give class folders, or a label column; see `diptych inspect`")
    if not labels:
        tested = given if test is None else material(test)
        labelled = replace(tested.take(torch.zeros(0, dtype=torch.int64)), sealed=False)
    elif "train" in given.companions:
        labelled = material(given.companions["train"])
        tested = given if test is None else material(test)
    elif test is not None:
        labelled, tested = given, material(test)
    else:
        seal.check(given.source, what=f"set {given.name!r}", sealed=given.sealed)
        labelled, tested = _held_out(given, seed)
    if labelled.classes != given.classes or tested.classes != given.classes:
        raise UsageError(
            f"data {given.name!r}", "its splits do not have the same classes", "Give every split the same classes in one order"
        )
    seal.check(labelled.source, tested.source, f"labelled pictures of {given.name!r}", sealed=labelled.sealed)
    return labelled, tested


def _held_out(given: Material, seed: int) -> tuple[Material, Material]:
    """A share of each class, at least one picture of those that have two, is measured on; the rest is labelled."""
    label_N, draw = table(given.source).label_N, generator(seed, "held out", given.name)
    held: list[Tensor] = []
    for label in label_N.unique().tolist():
        member = (label_N == label).nonzero()[:, 0]
        count = 0 if label < 0 or len(member) < 2 else max(1, round(HELD * len(member)))
        held.append(member[torch.randperm(len(member), generator=draw)][:count])
    test_T = torch.cat(held).sort().values if held else torch.zeros(0, dtype=torch.int64)
    if not len(test_T):
        why = "no class has two labelled pictures, so nothing can be measured"
        raise UsageError(f"data {given.name!r}", why, "Give more pictures, or a test split")
    rest = torch.ones(len(label_N), dtype=torch.bool)
    rest[test_T] = False
    return given.take(rest.nonzero()[:, 0]), replace(given.take(test_T), name=f"{given.name} (held out)", protocols=())


def work_of(features: Features, labelled: Material, tested: Material, count: int | None, seed: int, free: Material | None = None) -> Work:
    """The model with the labelled pictures (all, or ``count`` of each class), their rows and words, and pictures without labels.

    Raises:
        DiptychError: labelled pictures were given, and none can be decoded.
    """
    part = labelled.take(_drawn(labelled, count, seed))
    model: Any = features.model
    image_SD = features.images(part.source, part.fingerprint) if len(part.source) else torch.zeros(0, model.embed_dim)
    readable = (~image_SD.isnan().any(1)).nonzero()[:, 0]
    if len(part.source) and not len(readable):
        raise DiptychError(f"data {labelled.name!r}", "none of its labelled pictures can be decoded", "Look at them with `diptych inspect`")
    words = table(part.source).take(readable) if len(part.source) else None
    templates = tested.templates or tuple(getattr(features.model, "templates", ())) or DEFAULT_TEMPLATES
    free_UD = None if free is None else features.images(free.source, free.fingerprint)
    seen = torch.zeros(0, dtype=torch.int64) if free_UD is None else (~free_UD.isnan().any(1)).nonzero()[:, 0]
    shots = Shots(
        image_SD[readable].clone(),
        torch.zeros(0, dtype=torch.int64) if words is None else words.label_N,
        class_rows(labelled.classes, templates, features.texts),
        tuple(labelled.classes),
        _scale(features.model),
        generator(seed, "adapt", labelled.name),
        None if free_UD is None else free_UD[seen].clone(),
        () if words is None else words.captions,
        tuple(templates),
        features.texts,
    )
    unlabelled: Sequence[Sample] = () if free is None else free.source
    return Work(model, shots, Pictures(_reader(model, part.source), readable), Pictures(_reader(model, unlabelled), seen))


def shots_of(features: Features, labelled: Material, tested: Material, count: int | None, seed: int) -> Shots:
    """The labelled rows alone; see :func:`work_of`."""
    return work_of(features, labelled, tested, count, seed).shots


def _drawn(labelled: Material, count: int | None, seed: int) -> Tensor:
    """Which samples are the shots; none of none."""
    if not len(labelled.source):
        return torch.zeros(0, dtype=torch.int64)
    label_N = table(labelled.source).label_N
    chosen = (label_N >= 0).nonzero()[:, 0]
    if count is None:
        return chosen
    order = chosen[torch.randperm(len(chosen), generator=generator(seed, "shots", labelled.name))]
    picked = [order[label_N[order] == label][:count] for label in range(len(labelled.classes))]
    return torch.cat(picked).sort().values


def _reader(model: Any, source: Sequence[Sample]) -> Any:
    """Indices to prepared pixels; what was decoded is kept while it fits."""
    from diptych.towers.encode import pixels

    kept: dict[int, Tensor] = {}

    def read(index_B: Tensor) -> Tensor:
        made = []
        for i in index_B.tolist():
            image_CHW = kept[i] if i in kept else pixels(source[i], model.config.preprocess)
            if len(kept) * image_CHW.numel() < KEEP_BYTES:
                kept[i] = image_CHW
            made.append(image_CHW)
        return torch.stack(made)

    return read


def _scale(model: Any) -> float:
    """What the model multiplies similarities with."""
    with torch.no_grad():
        return float(model.scale)
