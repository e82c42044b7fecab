"""What the claims of objectives without words share: their runs, the untrained arm, and what a frozen image tower is asked.

Shapes: N asked items, K known items, C classes, W width of the image tower.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from common import Claim, Values, train_run
from measures import effective_rank, pooled_rows, samples_of
from starts import frozen
from torch import Tensor
from torch.nn import functional as F

from diptych.engine.build import build_model
from diptych.engine.run import DataConfig, ObjectiveConfig, OptimConfig, Run

STEPS, BATCH = 240, 128
START = "image tower from nothing, drawings alone: no captions, no labels"
UNTRAINED = "untrained"
NEIGHBOURS, RIDGE = 20, 1e-3
PROBE, NEAREST, RANK = "linear probe, subgroup", f"{NEIGHBOURS}-NN, subgroup", "effective rank of pooled rows"


def alone(name: str, options: Mapping[str, Any] | None = None, steps: int = STEPS, **data: Any) -> Run:
    """A small convolutional tower trained on the views that the objective asks for.

    Args:
        options: of the objective.
        data: settings of the data beside path and batch (``views=…``).
    """
    run = frozen(steps=steps, objective=ObjectiveConfig(name=name, options=dict(options or {})), optim=OptimConfig(lr=2e-3, warmup=0.1))
    return run.model_copy(update={"data": DataConfig(**{"path": "study/train", "batch": BATCH, "workers": 0, **data})})


def trained_or_not(run: Run, folder: Path, progress: bool) -> Any:
    """The run's model; as it is before the first step where the arm is called ``untrained``."""
    if run.name.endswith(UNTRAINED):
        folder.mkdir(parents=True, exist_ok=True)
        return build_model(run)
    return train_run(run, folder, progress)


def against(identity: str, baseline: Run, method: Run, name: str, note: str, primary: str = PROBE, measure: Any = None) -> Claim:
    """``method`` against ``baseline``, which is called ``name``; arms of equal runs are trained once for all claims of this kind."""
    return Claim(
        id=identity,
        baseline=baseline,
        method=method,
        measure=measure or frozen_rows,
        primary=primary,
        start=START,
        note=note,
        train=trained_or_not,
        names=(name, "method"),
    )


def against_untrained(identity: str, method: Run, note: str = "", primary: str = PROBE, measure: Any = None) -> Claim:
    """``method`` against the same tower before its first step."""
    note = f"Baseline: the tower before its first step. {note}".strip()
    return against(identity, method.with_set("budget.steps=1"), method, UNTRAINED, note, primary, measure)


def subgroups() -> tuple[Tensor, Tensor, Tensor]:
    """Subgroup numbers of the known (K,) and the asked (N,) drawings, and the concepts of the asked (N,)."""
    known, asked = samples_of("study/train")[0], samples_of("study/zero-shot")[0]
    names = {name: i for i, name in enumerate(sorted({str(sample.meta["subgroup"]) for sample in known}))}
    number_K, number_N = (torch.tensor([names[str(sample.meta["subgroup"])] for sample in part]) for part in (known, asked))
    return number_K, number_N, torch.tensor([sample.label for sample in asked])


def votes(known_KW: Tensor, asked_NW: Tensor, number_K: Tensor) -> Tensor:
    """Votes (N, C) of the nearest known drawings, by cosine."""
    near_Nk = (F.normalize(asked_NW, dim=1) @ F.normalize(known_KW, dim=1).T).topk(NEIGHBOURS).indices
    return F.one_hot(number_K[near_Nk], int(number_K.max()) + 1).sum(1)


def regression(known_KW: Tensor, asked_NW: Tensor, number_K: Tensor) -> Tensor:
    """Scores (N, C) of a ridge regression from standardised rows to classes, in float64: a linear probe in closed form."""
    known, asked = known_KW.double(), asked_NW.double()
    mean_W, std_W = known.mean(0), known.std(0).clamp_min(1e-6)
    known, asked = (torch.cat([(rows - mean_W) / std_W, torch.ones(len(rows), 1, dtype=torch.float64)], dim=1) for rows in (known, asked))
    gram_WW = known.T @ known + RIDGE * len(known) * torch.eye(known.shape[1], dtype=torch.float64)
    return asked @ torch.linalg.solve(gram_WW, known.T @ F.one_hot(number_K).double())


def frozen_rows(model: Any) -> dict[str, Values]:
    """Linear probe and nearest neighbours from the training styles' drawings to those of unseen styles; effective rank.

    Classes are Unicode's subgroups; concepts are resampled.
    """
    number_K, number_N, concept_N = subgroups()
    known_KW, asked_NW = pooled_rows(model, samples_of("study/train")[0]), pooled_rows(model, samples_of("study/zero-shot")[0])
    answers = {PROBE: regression(known_KW, asked_NW, number_K), NEAREST: votes(known_KW, asked_NW, number_K)}
    hits = {name: Values.of((score_NC.argmax(1) == number_N).double(), concept_N) for name, score_NC in answers.items()}
    return {**hits, RANK: Values.of(effective_rank(asked_NW - asked_NW.mean(0)))}
