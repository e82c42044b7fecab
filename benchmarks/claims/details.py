"""What a tower's rows tell of details that naming does not ask for: how a drawing is turned, tinted and mirrored.

Each picture of the unseen styles is shown in eight ways (four turns, two tints); a ridge classifier on the pooled rows, trained on other
concepts, tells which. The ridge is chosen on a third part. Chance is 1/8.

Shapes: N pictures, V ways, W the tower's width.
"""

from __future__ import annotations

from typing import Any

import torch
from common import Values
from measures import samples_of
from torch import Tensor

from diptych.towers.encode import evaluating, pixels

TINTS = ((1.0, 1.0, 1.0), (0.75, 0.9, 1.0))
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


def ways(image_NCHW: Tensor) -> list[Tensor]:
    """The eight ways of showing pictures (uint8)."""
    tints = [torch.tensor(tint).view(3, 1, 1) for tint in TINTS]
    turned = [torch.rot90(image_NCHW, turn, (2, 3)) for turn in range(4)]
    return [(view * tint).round().to(torch.uint8) for view in turned for tint in tints]


def ridge(rows_NW: Tensor, told_N: Tensor, classes: int, weight: float) -> Tensor:
    """(W + 1, classes): least squares on one-hot targets with a ridge, the last row the bias."""
    x = torch.cat([rows_NW, torch.ones(len(rows_NW), 1, dtype=rows_NW.dtype)], 1)
    penalty = weight * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    penalty[-1, -1] = 0
    return torch.linalg.solve(x.T @ x + penalty, x.T @ torch.nn.functional.one_hot(told_N, classes).to(x.dtype))


def detail(model: Any) -> dict[str, Values]:
    """Whether the way of each showing is told, on a third of the concepts; concepts are resampled."""
    samples = [s for s in samples_of("study/zero-shot")[0] if s.meta["style"] != "emojione-monotone"]
    with evaluating(model):
        shown = ways(torch.stack([pixels(s, model.config.preprocess) for s in samples]))
        rows = torch.stack([model.image(model.normalise(view))[0].double() for view in shown], 1)
    concept_N = torch.tensor([s.label for s in samples])
    way_NV = torch.arange(len(shown)).expand(len(samples), -1)
    train, choose, test = (rows[concept_N % 3 == part].flatten(0, 1) for part in range(3))
    told_train, told_choose, told_test = (way_NV[concept_N % 3 == part].flatten() for part in range(3))
    mean, std = train.mean(0), train.std(0).clamp_min(1e-6)
    train, choose, test = ((part - mean) / std for part in (train, choose, test))

    def right(weight: float, part: Tensor, told: Tensor) -> Tensor:
        solved = ridge(train, told_train, len(shown), weight)
        return ((part @ solved[:-1] + solved[-1]).argmax(1) == told).double()

    best = max(RIDGES, key=lambda weight: float(right(weight, choose, told_choose).mean()))
    unit = concept_N[concept_N % 3 == 2].repeat_interleave(len(shown))
    return {"detail probe": Values.of(right(best, test, told_test), unit)}
