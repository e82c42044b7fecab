"""``adapt``: labelled pictures in, the same model with a head out, with what it gained and what it kept, each with an interval.

The labelled pictures are the training split of the data (or ``shots`` of each class of it); what is measured on is the test split. Where
the data has no test split, a part of each class is held out by the seed. Nothing is fitted, chosen or calibrated on a test picture: the
splits are compared by content, and options are chosen by cross-validation inside the labelled pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from diptych.adapt.parts.shots import Shots
from diptych.core.errors import DiptychError, UsageError
from diptych.core.rng import generator
from diptych.core.types import Record
from diptych.data import seal
from diptych.engine.fewshot import Choice, fitted
from diptych.evaluate.features import Features, default_folder
from diptych.evaluate.material import Material, material, table
from diptych.evaluate.protocols.zero_shot import DEFAULT_TEMPLATES, class_rows
from diptych.evaluate.run import evaluate

HELD = 0.3  # share of each class that is measured on, where the data has no test split
KEPT = ("pictograms/unseen", "pictograms/retrieval")  # what retention is measured on: concepts never trained on, and retrieval


@dataclass(frozen=True, slots=True)
class Adapted:
    """An adapted model and what is known of it.

    Args:
        model: the same towers, with a head for the classes of the data.
        choice: the method, its options and what cross-validation said; ``compared`` has every method that was tried.
        gain: the paired difference in top-1 to the parent's words on the same test pictures.
        records: all numbers: naming by words, naming by the head with its gain, and what was kept elsewhere.
        seconds: of fitting and choosing, encoding aside.
        shots: labelled pictures that were used.
    """

    model: Any
    choice: Choice
    compared: tuple[Choice, ...]
    gain: Record
    records: tuple[Record, ...]
    seconds: float
    shots: int

    def retention(self) -> float:
        """The smallest share that was kept of the parent's hits outside the data's classes."""
        return min(record.value for record in self.records if record.metric.endswith(".retention") and record.set in KEPT)

    def summary(self, where: str = "") -> dict[str, Any]:
        """The stable form that ``diptych adapt --json`` prints."""
        head = self.model.head
        return {
            "method": self.choice.method,
            "gain": self.gain.value,
            "gain_interval": list(self.gain.interval),
            "retention": self.retention(),
            "trainable": head.numbers(),
            "seconds": round(self.seconds, 3),
            "model": where or self.model.config.name,
            "options": dict(self.choice.options),
            "cross_validation": self.choice.accuracy,
            "shots": self.shots,
            "records": [record.as_dict() for record in self.records],
        }


def adapt(
    model: Any,
    data: Any,
    *,
    method: str = "auto",
    options: Mapping[str, Any] | None = None,
    shots: int | None = None,
    test: Any = None,
    seed: int = 0,
    cache: str | Path | Literal[False] | None = None,
    out: str | Path | None = None,
    command: str = "",
    progress: bool = False,
    say: Callable[[str], None] | None = None,
) -> Adapted:
    """Fit a head for the classes of ``data`` on the rows of ``model``.

    Args:
        model: a dual encoder, or what ``diptych.load`` takes.
        data: a set with a training companion, a dataset, the name or path of one; class folders are enough.
        method: an id of ``diptych adapt --list``; ``"auto"`` compares the fast ones by cross-validation.
        options: of the method; what is not given is chosen by cross-validation where the method has a grid for it.
        shots: use this many labelled pictures of each class, drawn by the seed; None uses all.
        test: measure on this instead of the data's own test split. It is never fitted on.
        seed: of every draw.
        cache: folder of cached rows; None is the user's cache folder, False keeps nothing.
        out: a folder for records and the report of the measurement.
        command: what was typed, for the records.
        say: is told what was chosen and why.

    Raises:
        UsageError: no classes, fewer than two, duplicate names, no labelled picture, an unknown method or option.
        SealedError: the labelled pictures are a sealed set or share a picture with the test pictures.
    """
    say = say or (lambda line: None)
    if isinstance(model, (str, Path)):
        from diptych.towers.formats.load import load

        model = load(str(model))
    folder = None if cache is False else default_folder() if cache is None else Path(cache)
    features = Features(model, folder, progress=progress)
    labelled, tested = splits(data, test, seed)
    given = shots_of(features, labelled, tested, shots, seed)
    head, compared, seconds = fitted(method, given, options or {})
    for choice in compared:
        say(_told(choice))
    headed = model.with_head(head)
    headed.config = headed.config.model_copy(update={"name": f"{model.config.name}+{compared[0].method}", "parent": model.config.name})
    common: dict[str, Any] = {"baseline": model, "seed": seed, "cache": cache, "out": out, "command": command, "progress": progress}
    records = evaluate(headed, tested, protocols=["classify", "zero_shot"], **common)
    for name in KEPT:
        records += evaluate(headed, name, **common)
    gain = next(record for record in records if (record.protocol, record.metric) == ("classify", "top1.gain"))
    return Adapted(headed, compared[0], tuple(compared), gain, tuple(records), seconds, len(given.label_S))


def _told(choice: Choice) -> str:
    """One method's line: its options and what cross-validation said of them."""
    settings = ", ".join(f"{name}={value}" for name, value in choice.options.items())
    if choice.accuracy is None:
        return f"{choice.method}: nothing could be held out (one picture a class); defaults {settings}"
    right, words = 100 * choice.accuracy, 100 * (choice.zero_shot or 0)
    return f"{choice.method}: {right:.1f}% of the held-out labelled pictures, words alone {words:.1f}% ({settings or 'no options'})"


def splits(data: Any, test: Any, seed: int) -> tuple[Material, Material]:
    """What is fitted on, and what is measured on."""
    given = material(data)
    if not given.classes:
        raise UsageError(f"data {given.name!r}", "it has no classes", "Give class folders, or a label column; see `diptych inspect`")
    if "train" in given.companions:
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


def shots_of(features: Features, labelled: Material, tested: Material, count: int | None, seed: int) -> Shots:
    """The labelled rows: all, or ``count`` of each class."""
    label_N = table(labelled.source).label_N
    chosen = (label_N >= 0).nonzero()[:, 0]
    if count is not None:
        order = chosen[torch.randperm(len(chosen), generator=generator(seed, "shots", labelled.name))]
        picked = [order[label_N[order] == label][:count] for label in range(len(labelled.classes))]
        chosen = torch.cat(picked).sort().values
    if not len(chosen):
        raise UsageError(f"data {labelled.name!r}", "no picture has a label", "Give labelled pictures; see `diptych inspect`")
    part = labelled.take(chosen)
    image_SD = features.images(part.source, part.fingerprint)
    readable_S = ~image_SD.isnan().any(1)
    if not bool(readable_S.any()):
        raise DiptychError(f"data {labelled.name!r}", "none of its labelled pictures can be decoded", "Look at them with `diptych inspect`")
    templates = tested.templates or tuple(getattr(features.model, "templates", ())) or DEFAULT_TEMPLATES
    text_KD = class_rows(labelled.classes, templates, features.texts)
    draw = generator(seed, "adapt", labelled.name)
    return Shots(image_SD[readable_S].clone(), label_N[chosen][readable_S], text_KD, tuple(labelled.classes), _scale(features.model), draw)


def _scale(model: Any) -> float:
    """What the model multiplies similarities with."""
    with torch.no_grad():
        return float(model.scale)
