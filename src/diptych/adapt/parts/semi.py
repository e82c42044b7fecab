"""What methods with pictures without labels share: views of rows, and training a linear head on labelled and unlabelled batches together.

Shapes: B labelled pictures of a step, U pictures without labels of a step, K classes, D joint width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from diptych.adapt.parts.shots import Shots
from diptych.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Course:
    """How the head is trained.

    Args:
        steps: of SGD with Nesterov momentum 0.9; the rate falls as ``cos(7/16 pi done)``.
        batch: labelled pictures a step.
        ratio: pictures without labels for each labelled one.
        lr: first learning rate, on rows of length 1.
        decay: weight decay, towards the words.
        ema: how much of the running mean of the weights is kept a step; the mean is what answers.
        weak: length of the noise on a row's weak view.
        strong: the same on its strong view.
        drop: share of a row's numbers that are 0 in its strong view.
    """

    steps: int = 500
    batch: int = 64
    ratio: int = 7
    lr: float = 0.03
    decay: float = 5e-4
    ema: float = 0.99
    weak: float = 0.1
    strong: float = 0.3
    drop: float = 0.2


def need_pool(shots: Shots, method: str) -> Tensor:
    """The pool (U, D). Raises :class:`UsageError` where it is empty."""
    if not len(shots.pool_UD):
        raise UsageError(method, "no pictures without labels were given", "Give some, or take linear-probe")
    return shots.pool_UD


def view(row_BD: Tensor, draw: Generator, noise: float, drop: float = 0.0) -> Tensor:
    """Unit rows with ``drop`` of their numbers at 0 and noise of length ``noise`` added: for rows, what a changed picture is for towers."""
    shape, device = row_BD.shape, row_BD.device
    if drop:
        row_BD = row_BD * (torch.rand(shape, generator=draw) >= drop).to(device)
    return F.normalize(row_BD + noise / math.sqrt(shape[1]) * torch.randn(shape, generator=draw).to(device), dim=1)


def trained(shots: Shots, method: str, course: Course, unlabelled: Callable[[Tensor, Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Weight (K, D) and bias (K,) of a head that starts at the words: cross-entropy on labelled pictures plus ``unlabelled``.

    Args:
        unlabelled: indices (U,) in the pool, logits (U, K) of their weak views and of their strong views, to a loss.
    """
    pool_UD, image_SD, draw = need_pool(shots, method), shots.image_SD, shots.draw
    kept = {"weight": shots.text_KD.clone(), "bias": torch.zeros_like(shots.text_KD[:, 0])}
    learned = {name: value.clone().requires_grad_() for name, value in kept.items()}
    optimizer = torch.optim.SGD(list(learned.values()), lr=course.lr, momentum=0.9, nesterov=True)

    def logits(row_BD: Tensor) -> Tensor:
        return shots.scale * row_BD @ learned["weight"].T + learned["bias"]

    with torch.enable_grad():
        for step in range(course.steps):
            optimizer.param_groups[0]["lr"] = course.lr * math.cos(7 / 16 * math.pi * step / course.steps)
            free_U = torch.randint(len(pool_UD), (course.ratio * course.batch,), generator=draw).to(pool_UD.device)
            weak_UD, strong_UD = view(pool_UD[free_U], draw, course.weak), view(pool_UD[free_U], draw, course.strong, course.drop)
            loss = unlabelled(free_U, logits(weak_UD), logits(strong_UD))
            if len(image_SD):
                own_B = torch.randint(len(image_SD), (course.batch,), generator=draw).to(image_SD.device)
                loss = loss + F.cross_entropy(logits(view(image_SD[own_B], draw, course.weak)), shots.label_S[own_B])
            away = (learned["weight"] - shots.text_KD).square().sum() + learned["bias"].square().sum()
            optimizer.zero_grad()
            (loss + course.decay / 2 * away).backward()
            optimizer.step()
            share = min(course.ema, (1 + step) / (10 + step))
            for name, value in learned.items():
                kept[name].lerp_(value.detach(), 1 - share)
    return shots.scale * kept["weight"], kept["bias"]


def consistency(weak_UK: Tensor, strong_UK: Tensor, threshold: float | Tensor) -> Tensor:
    """FixMatch's loss (arXiv:2001.07685, equation 4) of logits (U, K) of weak and strong views, the mean over all pictures, sure or not.

    Args:
        threshold: least probability of a label, one number or one a class (K,).
    """
    chance_U, said_U = weak_UK.detach().softmax(1).max(1)
    least = threshold[said_U] if isinstance(threshold, Tensor) else threshold
    return (F.cross_entropy(strong_UK, said_U, reduction="none") * (chance_U >= least)).mean()
