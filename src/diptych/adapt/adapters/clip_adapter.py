"""CLIP-Adapter: a small bottleneck on the picture's row, mixed with the row itself, trained on the labelled pictures.

Paper: Gao et al., "CLIP-Adapter: Better Vision-Language Models with Feature Adapters", IJCV 2024, arXiv:2110.04544 (the
image adapter alone, which is what the code has).
Code: https://github.com/gaopengcuhk/CLIP-Adapter
Relations: ``tip-adapter`` reaches the same form without training by setting the first layer to the labelled rows.

Shapes: S labelled pictures, K classes, D joint width, H = D // 4 hidden.

::

    new = relu(relu(image @ down.T) @ up.T)
    logits = scale * unit(ratio * new + (1 - ratio) * image) @ text.T
    loss = mean(cross_entropy(logits[s], label[s]) for s); Adam on down and up

Rows here are unit rows before the mix; the code mixes rows as the projection gives them, at a ratio of 0.2.
"""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch.nn import functional as F

from diptych.adapt.parts.shots import Shots
from diptych.core.card import Card
from diptych.towers.head import Head, HeadConfig

CARD = Card(
    id="clip-adapter",
    name="CLIP-Adapter",
    family="adapt",
    paper="CLIP-Adapter: Better Vision-Language Models with Feature Adapters, arXiv:2110.04544",
    where="the image adapter and its residual mix",
    code="https://github.com/gaopengcuhk/CLIP-Adapter",
    needs=frozenset({"labels"}),
    claim="a residual bottleneck beats learned prompts at every number of shots",
    published="ImageNet 16 shots 63.59 against 60.32 zero-shot (the log of Tip-Adapter's code, ResNet-50)",
)
GRID = {"ratio": (0.2, 0.6)}


class Options(BaseModel):
    """Settings of :func:`clip_adapter`.

    Args:
        ratio: share of the new row in the mix.
        epochs: passes over the labelled pictures.
        lr: first learning rate of Adam; it falls along a cosine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    ratio: float = Field(default=0.2, ge=0.0, le=1.0)
    epochs: int = Field(default=200, ge=1)
    lr: float = Field(default=3e-3, gt=0.0)


def clip_adapter(shots: Shots, *, ratio: float = 0.2, epochs: int = 200, lr: float = 3e-3, batch: int = 256) -> Head:
    """The head; see the module. Weights start as torch's linear layers do, from the run's own numbers."""
    width, count = shots.width, len(shots.label_S)
    hidden = max(1, width // 4)
    sizes = {"down": (hidden, width), "up": (width, hidden)}
    layer = {
        name: ((torch.rand(shape, generator=shots.draw) * 2 - 1) / math.sqrt(shape[1])).requires_grad_() for name, shape in sizes.items()
    }
    class_KD = shots.scale * shots.text_KD
    optimizer = torch.optim.Adam(list(layer.values()), lr=lr, eps=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * math.ceil(count / batch))
    with torch.enable_grad():
        for _ in range(epochs):
            for part in torch.randperm(count, generator=shots.draw).split(batch):
                x_BD = shots.image_SD[part]
                new_BD = F.relu(F.relu(x_BD @ layer["down"].T) @ layer["up"].T)
                row_BD = F.normalize(ratio * new_BD + (1 - ratio) * x_BD, dim=-1)
                loss = F.cross_entropy(row_BD @ class_KD.T, shots.label_S[part])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    config = HeadConfig(
        kind="residual", classes=shots.classes, width=width, hidden=hidden, ratio=ratio, made_by=f"clip-adapter, ratio {ratio:g}"
    )
    return Head.of(config, weight=class_KD, down=layer["down"].detach(), up=layer["up"].detach())
