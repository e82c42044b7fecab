"""A quick validator for training: the same numbers as ``evaluate``, on a fixed subset, without intervals or files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from diptych.core.rng import generator
from diptych.evaluate.features import Features
from diptych.evaluate.material import material, table
from diptych.evaluate.measure import ask
from diptych.evaluate.outcome import Question
from diptych.evaluate.protocols.zero_shot import DEFAULT_TEMPLATES


def validator(data: Any, limit: int | None = 2000, *, seed: int = 0, batch_size: int = 64) -> Callable[[Any], dict[str, float]]:
    """A function from a model to ``{metric: value}``, for choosing checkpoints.

    Args:
        data: what :func:`diptych.evaluate.run.evaluate` takes: a set, a dataset, a name or a path.
        limit: at most this many samples, the same ones at every call; None takes all.
        seed: which samples.

    Raises:
        UsageError: no such set.
        DiptychError: the set has neither classes nor captions, or most of its pictures are broken.
    """
    chosen = material(data)
    if limit is not None and limit < len(chosen.source):
        chosen = chosen.take(torch.randperm(len(chosen.source), generator=generator(seed, "limit", chosen.name))[:limit].sort().values)
    words = table(chosen.source)

    def validate(model: Any) -> dict[str, float]:
        features = Features(model, None, batch_size)
        image_ND = features.images(chosen.source, chosen.fingerprint)
        index_N = (~image_ND.isnan().any(1)).nonzero()[:, 0]
        prompts = chosen.templates or tuple(getattr(model, "templates", ())) or DEFAULT_TEMPLATES
        question = Question(image_ND[index_N], words.take(index_N), features.texts, chosen.classes, prompts)
        outcomes = ask(question, chosen.protocols, chosen.name)
        return {metric.name: float(metric.value_N.mean()) for outcome in outcomes for metric in outcome.metrics if "[" not in metric.name}

    return validate
