"""Naming changed pictures: the one measurement behind the protocols of robustness.

A fixed part of the set's labelled pictures, drawn by the seed, is named by zero-shot classification, first as it is and then after each
change. All models see the same pixels. Shapes: M pictures, S settings, K classes, D joint width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diptych.evaluate.fitting import named
from diptych.evaluate.material import Table
from diptych.evaluate.metrics import classification
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.protocols.zero_shot import class_rows
from diptych.evaluate.view import Change

PICTURES = 256  # one batch of View.changed


@dataclass(frozen=True, slots=True)
class Setting:
    """One change at one strength.

    Args:
        series: the kind of change.
        x: its strength, for a figure's axis.
        name: names change and strength, and all that decides the pixels; other pixels, other name.
        change: makes the :data:`Change`, fresh for each call: a random one starts its generator anew.
    """

    series: str
    x: float
    name: str
    change: Change


@dataclass(frozen=True, slots=True)
class Drawn:
    """The part of the question that is asked.

    Args:
        index_M: its pictures, by position in the question.
        table: their words and labels.
        class_KD: unit rows of the classes.
        image_MD: unit rows of the pictures as they are.
    """

    index_M: Tensor
    table: Table
    class_KD: Tensor
    image_MD: Tensor

    def hits(self, image_MD: Tensor) -> Tensor:
        """1.0 where the right class is nearest (float64 ``M``); ties count against it."""
        return classification.top_k(classification.feature_ranks(image_MD, self.class_KD, self.table.label_N), 1)


def applies(question: Question) -> bool:
    """There are classes and labels, and a model that says how it reads pixels."""
    return named(question) and question.more is not None and hasattr(question.view.model.config, "preprocess")


def draw(question: Question, count: int = PICTURES) -> Drawn:
    """At most ``count`` labelled pictures, the same for every model and protocol."""
    index_M = (question.table.label_N >= 0).nonzero()[:, 0]
    if count < len(index_M):
        index_M = index_M[torch.randperm(len(index_M), generator=question.view.generator("shift"))[:count].sort().values]
    class_KD = class_rows(question.classes, question.templates, question.encode_text)
    return Drawn(index_M, question.table.take(index_M), class_KD, question.image_ND[index_M])


def about(of: str) -> dict[str, About]:
    """The ``ABOUT`` of :func:`sweep` for a protocol whose metrics begin with ``of``."""
    return {
        f"{of}_top1": About(f"Top-1 under {of}", "the right name comes first, averaged over all settings"),
        f"{of}_drop": About(f"Lost under {of}", "top-1 of the pictures as they are, less that of the changed ones", "lower"),
        f"{of}_kept": About(f"Kept under {of}", "of the pictures named rightly as they are, the share that still is"),
    }


def sweep(question: Question, protocol: str, of: str, settings: Sequence[Setting], count: int = PICTURES) -> Outcome:
    """Top-1 under every setting.

    Metrics: ``OF_top1`` (each picture's mean over the settings), ``OF_drop``, ``OF_kept`` (Σ clean·changed / Σ clean), and
    ``OF_top1[SERIES]`` (mean over the strengths of one kind of change). Intervals resample concepts where the set names them.
    """
    drawn = draw(question, count)
    clean_M = drawn.hits(drawn.image_MD)
    rows = (question.view.changed(one.name, one.change, drawn.index_M) for one in settings)
    hit_MS = torch.stack([drawn.hits(image_MD) for image_MD in rows], 1)
    unit_M, chance = drawn.table.group_N, classification.top_k_chance(1, len(drawn.class_KD))
    mean_M = hit_MS.mean(1)
    metrics = [
        Metric(f"{of}_top1", mean_M, unit_M, chance, hits=False),
        Metric(f"{of}_drop", clean_M - mean_M, unit_M, None, hits=False),
    ]
    if clean_M.sum() >= 2:
        metrics.append(Metric(f"{of}_kept", torch.stack([clean_M, clean_M * mean_M], 1), unit_M, chance, hits=False, of=kept))
    names = list(dict.fromkeys(one.series for one in settings))
    for name in names if len(names) > 1 else ():
        mine = torch.tensor([one.series == name for one in settings])
        metrics.append(Metric(f"{of}_top1[{name}]", hit_MS[:, mine].mean(1), unit_M, chance, hits=False))
    show = {"settings": [(one.series, one.x) for one in settings], "accuracy_S": hit_MS.mean(0), "clean": float(clean_M.mean())}
    return Outcome(protocol, tuple(metrics), drawn.index_M, show)


def kept(value_M2: Tensor) -> float:
    """Σ clean·changed / Σ clean of rows ``(clean, clean · changed)``; NaN where nothing was right."""
    clean, both = value_M2.sum(0).tolist()
    return both / clean if clean else float("nan")


def curves(outcome: Outcome, title: str, x: str, told: str, clean_at: float | None, log: bool = False) -> dict[str, Any]:
    """A figure of top-1 against strength, one curve a series, each beginning with the pictures as they are at ``clean_at``."""
    show = outcome.show
    points: dict[str, list[list[float]]] = {}
    for (series, strength), accuracy in zip(show["settings"], show["accuracy_S"].tolist(), strict=True):
        points.setdefault(series, [] if clean_at is None else [[clean_at, show["clean"]]]).append([strength, accuracy])
    series = [{"name": name, "points": sorted(one)} for name, one in points.items()]
    return {"kind": "lines", "title": title, "about": told, "x": x, "y": "top-1", "share": True, "log": log, "series": series}
