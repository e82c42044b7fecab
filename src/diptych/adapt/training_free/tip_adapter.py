"""Tip-Adapter: the labelled pictures are a cache of keys and labels whose answers are added to the zero-shot logits; the keys may be tuned.

Paper: Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", ECCV 2022, arXiv:2207.09519
(the cache and, with tuned keys, Tip-Adapter-F).
Code: https://github.com/gaopengcuhk/Tip-Adapter
Relations: ``nearest-mean`` keeps one key a class.

Shapes: S labelled pictures, K classes, D joint width, N pictures to name.

::

    affinity[n, s] = exp(-beta * (1 - image[n] · key[s]))        # key[s] = image[s]
    logits[n, k] = scale * image[n] · text[k] + alpha * sum(affinity[n, s] for s if label[s] == k)

With ``epochs`` above 0 the keys are trained by cross-entropy of these logits on the labelled pictures themselves (Tip-Adapter-F): AdamW,
learning rate 1e-3 falling along a cosine, as in the code. Augmented views are not used, since only rows are seen; the code makes the keys
from ten of each picture.
"""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.shots import Shots
from diptych.core.card import Card
from diptych.towers.head import Head, HeadConfig

CARD = Card(
    id="tip-adapter",
    name="Tip-Adapter",
    family="adapt",
    paper="Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification, arXiv:2207.09519",
    where="the cache model, and Tip-Adapter-F",
    code="https://github.com/gaopengcuhk/Tip-Adapter",
    needs=frozenset({"labels"}),
    claim="training-free, on a par with trained adapters; tuned keys are better still",
    published="ImageNet 16 shots: 62.01 training-free, 65.51 tuned, zero-shot 60.32 (the code's log, ResNet-50)",
)
GRID = {"alpha": (0.3, 1.0, 3.0, 10.0), "beta": (1.0, 3.0, 5.5, 10.0)}


class Options(BaseModel):
    """Settings of :func:`tip_adapter`.

    Args:
        alpha: weight of the cache's answer.
        beta: sharpness of the affinity.
        epochs: passes over the labelled pictures that tune the keys; 0 trains nothing. The paper takes 20.
        lr: first learning rate of the tuning.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    alpha: float = Field(default=1.0, gt=0.0)
    beta: float = Field(default=5.5, gt=0.0)
    epochs: int = Field(default=0, ge=0)
    lr: float = Field(default=1e-3, gt=0.0)


def tip_adapter(shots: Shots, *, alpha: float = 1.0, beta: float = 5.5, epochs: int = 0, lr: float = 1e-3) -> Head:
    """The head; see the module."""
    key_SD = tuned(shots, alpha, beta, epochs, lr) if epochs else shots.image_SD
    made_by = f"tip-adapter, alpha {alpha:g}, beta {beta:g}" + (f", {epochs} epochs" if epochs else "")
    config = HeadConfig(kind="cache", classes=shots.classes, width=shots.width, cached=len(key_SD), beta=beta, made_by=made_by)
    return Head.of(config, weight=shots.scale * shots.text_KD, key=key_SD, value=alpha * shots.onehot_SK())


def tuned(shots: Shots, alpha: float, beta: float, epochs: int, lr: float, batch: int = 256) -> Tensor:
    """Keys (S, D) after the tuning."""
    key_SD = shots.image_SD.clone().requires_grad_()
    value_SK, zero_SK = alpha * shots.onehot_SK(), shots.scale * shots.image_SD @ shots.text_KD.T
    optimizer = torch.optim.AdamW([key_SD], lr=lr, eps=1e-4)
    count = len(shots.label_S)
    steps = epochs * math.ceil(count / batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with torch.enable_grad():
        for _ in range(epochs):
            for part in torch.randperm(count, generator=shots.draw).split(batch):
                affinity_BS = torch.exp(-beta * (1 - shots.image_SD[part] @ key_SD.T))
                loss = F.cross_entropy(zero_SK[part] + affinity_BS @ value_SK, shots.label_S[part])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return key_SD.detach()
