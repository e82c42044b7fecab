"""Options of a method that works on rows, chosen by cross-validation inside the labelled pictures, and methods compared the same way.

Shapes: S labelled pictures, K classes, F folds.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.shots import Shots
from diptych.core import registry
from diptych.core.errors import UsageError
from diptych.engine.options import check_options
from diptych.towers.head import Head

FOLDS = 4
FAST = ("nearest-mean", "gda-clip", "tip-adapter", "linear-probe")


@dataclass(frozen=True, slots=True)
class Choice:
    """What cross-validation found.

    Args:
        method: the method's id.
        options: the chosen ones.
        accuracy: of the held-out labelled pictures; None where nothing could be held out (one picture a class).
        zero_shot: the same for the words alone.
        tried: every setting with its accuracy, in the order of the grid.
    """

    method: str
    options: Mapping[str, Any]
    accuracy: float | None
    zero_shot: float | None
    tried: tuple[tuple[Mapping[str, Any], float], ...] = ()


def folds(label_S: Tensor, draw: torch.Generator, most: int = FOLDS) -> list[tuple[Tensor, Tensor]]:
    """``(fit, ask)`` indices: every class is spread evenly over the folds; a class with one picture is always fitted on, never asked.

    Empty where no class has two pictures.
    """
    count_K = torch.bincount(label_S)
    several = count_K[count_K > 1]
    if not len(several):
        return []
    parts = max(2, min(most, int(several.float().median())))
    fold_S = torch.full_like(label_S, -1)
    for label in (count_K > 1).nonzero()[:, 0].tolist():
        member = (label_S == label).nonzero()[:, 0]
        fold_S[member[torch.randperm(len(member), generator=draw)]] = (torch.arange(len(member)) + label) % parts
    every = [((fold_S != fold).nonzero()[:, 0], (fold_S == fold).nonzero()[:, 0]) for fold in range(parts)]
    return [(fit, ask) for fit, ask in every if len(ask)]


def judged(head: Head, shots: Shots, index: Tensor) -> Tensor:
    """Two sums over the asked pictures: hits and negative log-likelihoods, float64 ``(2,)``."""
    logits_AK, label_A = head(shots.image_SD[index]).double(), shots.label_S[index]
    hits = (logits_AK.argmax(1) == label_A).double().sum()
    return torch.stack([hits, F.cross_entropy(logits_AK, label_A, reduction="sum")])


def choose(identity: str, shots: Shots, given: Mapping[str, Any]) -> Choice:
    """Options of one method: ``given`` ones stay; each other one of its ``GRID`` is what held-out labelled pictures like best.

    Best is the most hits; equal ones are told apart by the likelihood, then by the order of the grid. With one picture a class nothing can
    be held out, and the method's defaults are taken.
    """
    entry = registry.find(identity, "adapt")
    open_ = {name: values for name, values in entry.load().GRID.items() if name not in given}
    given = check_options("adapt", identity, given)
    divided = folds(shots.label_S, shots.draw)
    if not divided:
        return Choice(identity, given, None, None)
    asked = sum(len(ask) for _, ask in divided)
    best: tuple[float, float] | None = None
    chosen: dict[str, Any] = given
    tried = []
    for values in itertools.product(*open_.values()):
        options = {**given, **dict(zip(open_, values, strict=True))}
        hits, cost = sum(judged(entry.function(shots.take(fit), **options), shots, ask) for fit, ask in divided).tolist()  # type: ignore[union-attr]
        tried.append((options, hits / asked))
        if best is None or (hits, -cost) > best:
            best, chosen = (hits, -cost), options
    words = sum(judged(shots.zero_shot(), shots, ask) for _, ask in divided)[0]  # type: ignore[index]
    return Choice(identity, chosen, (best or (0.0, 0.0))[0] / asked, float(words) / asked, tuple(tried))


def fitted(identity: str, shots: Shots, given: Mapping[str, Any]) -> tuple[Head, list[Choice], float]:
    """The head, what was compared (the chosen method first), and the seconds of it all.

    Args:
        identity: a method's id, or ``"auto"``: the fast ones are compared by cross-validation, and the words alone stay where none of them
            gets more held-out pictures right.

    Raises:
        UsageError: options with ``auto``, an unknown method, or options that it has not.
    """
    start = time.perf_counter()
    if identity != "auto":
        choice = choose(identity, shots, given)
        return registry.find(identity, "adapt").function(shots, **choice.options), [choice], time.perf_counter() - start
    if given:
        raise UsageError(
            "options with method 'auto'", "it chooses method and options by itself", "Name the method, or leave the options out"
        )
    choices = sorted((choose(one, shots, {}) for one in FAST), key=lambda choice: -(choice.accuracy or 0.0))
    first = choices[0]
    if first.accuracy is None:
        first = next(choice for choice in choices if choice.method == "gda-clip")
    elif first.zero_shot is not None and first.accuracy <= first.zero_shot:
        return shots.zero_shot(), [Choice("zero-shot", {}, first.zero_shot, first.zero_shot), *choices], time.perf_counter() - start
    head = registry.find(first.method, "adapt").function(shots, **first.options)
    return head, [first, *(choice for choice in choices if choice is not first)], time.perf_counter() - start


def methods() -> Sequence[registry.Entry]:
    """Every method of the family, by id."""
    return [entry for entry in registry.entries() if entry.family == "adapt"]
