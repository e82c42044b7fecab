"""Options of an adaptation method, chosen by cross-validation inside the labelled pictures, and methods compared the same way.

A method that trains a tower is asked on one fold only, since each answer is a training. A method that sees no labels is asked on all
labelled pictures at once. Shapes: S labelled pictures, A asked pictures, K classes, F folds.
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
from diptych.adapt.parts.work import Tuned, Work
from diptych.core import registry
from diptych.core.errors import UsageError
from diptych.engine.options import check_options
from diptych.towers.head import Head
from diptych.towers.rule import Rule

Made = Head | Rule | Tuned

FOLDS = 4
NOTHING = "nothing could be held out (one picture a class, or no labels)"
FAST = ("nearest-mean", "gda-clip", "tip-adapter", "linear-probe")


@dataclass(frozen=True, slots=True)
class Choice:
    """What cross-validation found.

    Args:
        method: the method's id.
        options: the chosen ones.
        accuracy: of the held-out labelled pictures; None where none were asked.
        zero_shot: the same for the words alone.
        tried: every setting with its accuracy, in the order of the grid.
        unasked: why no held-out pictures were asked: there were none, or there was nothing to choose and asking would be another training.
    """

    method: str
    options: Mapping[str, Any]
    accuracy: float | None
    zero_shot: float | None
    tried: tuple[tuple[Mapping[str, Any], float], ...] = ()
    unasked: str = ""


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


def shots_in(given: Shots | Work) -> Shots:
    """The rows of either."""
    return given.shots if isinstance(given, Work) else given


def make(entry: registry.Entry, given: Shots | Work, options: Mapping[str, Any]) -> Made:
    """What the method makes of what it is given.

    Raises:
        UsageError: it needs labels, pictures without labels, captions, or the model itself, and has not got them.
    """
    needs, shots = entry.card.needs, shots_in(given)
    what = f"method {entry.id!r}"
    instead = "pool-instead" in needs and len(shots.pool_UD) > 0
    if "labels" in needs and not len(shots.label_S) and not instead:
        other = "pictures without labels: --unlabelled" if "pool-instead" in needs else "a method that needs none"
        raise UsageError(what, "it needs labelled pictures, and none has a label", f"Give labelled pictures, or {other}")
    if "unlabelled" in needs and not len(shots.pool_UD):
        raise UsageError(what, "it needs pictures without labels", "Give them: --unlabelled FOLDER, or --unlabelled test")
    if "captions" in needs and not any(shots.captions):
        raise UsageError(what, "it needs captions of the labelled pictures", "Give data with captions; see `diptych inspect`")
    if "towers" not in needs:
        return entry.function(shots, **options)
    if not isinstance(given, Work):
        raise UsageError(what, "it changes a tower, and only rows were given", "Give the model and the pictures")
    return entry.function(given, **options)


def logits_of(made: Made, given: Shots | Work, index: Tensor) -> Tensor:
    """Logits (A, K) of the labelled pictures at ``index``, float64."""
    shots = shots_in(given)
    if isinstance(made, Head):
        return made(shots.image_SD[index]).double()
    if not isinstance(given, Work):
        raise UsageError("adapt", "this method answers by a model, and only rows were given", "Give the model and the pictures")
    if isinstance(made, Rule):
        answer = made.answer(given.model, shots.classes)
        if made.config.reads == "rows":
            return answer.logits(shots.image_SD[index]).double()
        return torch.cat([answer.logits(given.pictures(part)).double() for part in index.split(64)])
    model = made.model
    rows_AD = torch.cat([model.encode_image(given.pictures(part)) for part in index.split(256)])
    if model.head is not None:
        return model.head(rows_AD).double()
    templates = None if model.prompts is not None else shots.templates
    return model.classifier(shots.classes, templates).probabilities(rows_AD).double().log()


def judged(made: Made, given: Shots | Work, index: Tensor) -> Tensor:
    """Two sums over the asked pictures: hits and negative log-likelihoods, float64 ``(2,)``."""
    logits_AK, label_A = logits_of(made, given, index), shots_in(given).label_S[index]
    hits = (logits_AK.argmax(1) == label_A).double().sum()
    return torch.stack([hits, F.cross_entropy(logits_AK, label_A, reduction="sum")])


def asked_of(entry: registry.Entry, shots: Shots) -> list[tuple[Tensor, Tensor]]:
    """``(fit, ask)`` indices by which options of this method are judged; empty where nothing can be."""
    if "labels" not in entry.card.needs:
        every = torch.arange(len(shots.label_S))
        return [(every, every)] if len(every) else []
    divided = folds(shots.label_S, shots.draw)
    return divided[:1] if "towers" in entry.card.needs else divided


def choose(identity: str, work: Shots | Work, given: Mapping[str, Any]) -> Choice:
    """Options of one method: ``given`` ones stay; each other one of its ``GRID`` is what held-out labelled pictures like best.

    Best is the most hits; equal ones are told apart by the likelihood, then by the order of the grid. With one picture a class nothing can
    be held out, and the method's defaults are taken.
    """
    entry, shots = registry.find(identity, "adapt"), shots_in(work)
    open_ = {name: values for name, values in entry.load().GRID.items() if name not in given}
    given = check_options("adapt", identity, given)
    divided = asked_of(entry, shots)
    if not divided or (not open_ and "towers" in entry.card.needs):
        return Choice(identity, given, None, None, unasked="nothing to choose" if not open_ else NOTHING)
    asked = sum(len(ask) for _, ask in divided)
    best: tuple[float, float] | None = None
    chosen: dict[str, Any] = given
    tried = []
    for values in itertools.product(*open_.values()):
        options = {**given, **dict(zip(open_, values, strict=True))}
        hits, cost = sum(judged(make(entry, work.take(fit), options), work, ask) for fit, ask in divided).tolist()  # type: ignore[union-attr]
        tried.append((options, hits / asked))
        if best is None or (hits, -cost) > best:
            best, chosen = (hits, -cost), options
    words = sum(judged(shots.zero_shot(), shots, ask) for _, ask in divided)[0]  # type: ignore[index]
    return Choice(identity, chosen, (best or (0.0, 0.0))[0] / asked, float(words) / asked, tuple(tried))


def fitted(identity: str, work: Shots | Work, given: Mapping[str, Any]) -> tuple[Made, list[Choice], float]:
    """What the method made, what was compared (the chosen method first), and the seconds of it all.

    Args:
        identity: a method's id, or ``"auto"``: the fast ones are compared by cross-validation, and the words alone stay where none of them
            gets more held-out pictures right.

    Raises:
        UsageError: options with ``auto``, an unknown method, options that it has not, or not what it needs.
    """
    start = time.perf_counter()
    if identity != "auto":
        choice = choose(identity, work, given)
        return make(registry.find(identity, "adapt"), work, choice.options), [choice], time.perf_counter() - start
    if given:
        raise UsageError(
            "options with method 'auto'", "it chooses method and options by itself", "Name the method, or leave the options out"
        )
    shots = shots_in(work)
    if not len(shots.label_S):
        raise UsageError("method 'auto'", "it compares methods on labelled pictures, and none has a label", "Name a method; see --list")
    choices = sorted((choose(one, shots, {}) for one in FAST), key=lambda choice: -(choice.accuracy or 0.0))
    first = choices[0]
    if first.accuracy is None:
        first = next(choice for choice in choices if choice.method == "gda-clip")
    elif first.zero_shot is not None and first.accuracy <= first.zero_shot:
        return shots.zero_shot(), [Choice("zero-shot", {}, first.zero_shot, first.zero_shot), *choices], time.perf_counter() - start
    made = make(registry.find(first.method, "adapt"), shots, first.options)
    return made, [first, *(choice for choice in choices if choice is not first)], time.perf_counter() - start


def methods() -> Sequence[registry.Entry]:
    """Every method of the family, by id."""
    return [entry for entry in registry.entries() if entry.family == "adapt"]
