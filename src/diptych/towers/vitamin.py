"""ViTamin's sizes: rows of a table that the hybrid tower (``hybrid.py``) computes.

Paper: Chen et al., "ViTamin: Designing Scalable Vision Models in the Vision-Language Era", arXiv:2404.02132, figure 3.
Reference code: https://github.com/Beckschen/ViTamin.

Relations: the tower itself is of kind ``hybrid``; against a plain ViT (``vision.py``) of equal parameters it spends some of them on a
convolutional stem and two stages of inverted residuals before the tokens, and gates its MLPs. ``"study"`` is not the paper's: its form at
32 px, with as many tokens and about as many parameters as the ViT of the preset ``study-vit``.

As a loop::

    x = conv(act(norm(conv(picture))))                          # stride 2
    for stage, depth in zip(channels, depths):
        for i in range(depth):
            x = shortcut(x) + project(act(depthwise(act(expand(norm(x))))))   # the first of a stage has stride 2
    x = flatten(conv(norm(x))) + positions                      # stride 2
    for block in blocks:
        x = x + attention(norm(x));  x = x + down(act(gate(norm(x))) * value(norm(x)))
    picture = mean(norm(x))

Shapes: none of its own.
"""

from __future__ import annotations

from typing import Any

from diptych.core.card import Card
from diptych.core.errors import UsageError, nearest
from diptych.towers.hybrid import HybridConfig

CARD = Card(
    id="vitamin",
    name="ViTamin",
    family="tower",
    paper="ViTamin: Designing Scalable Vision Models in the Vision-Language Era (arXiv:2404.02132)",
    where="figure 3: three stages, convolutional ones first, gated MLPs",
    code="https://github.com/Beckschen/ViTamin",
    claim="A hybrid of convolutional stages and a transformer beats a plain ViT of equal parameters in zero-shot after equal training",
    published="ViTamin-L +2.0 ImageNet zero-shot over ViT-L (DataComp-1B, same recipe; abstract)",
)

_PAPER: dict[str, Any] = {"image_size": (224, 224), "stem_stride": 2, "join_stride": 2}
SIZES: dict[str, dict[str, Any]] = {
    "small": {**_PAPER, "stem": 64, "stages": (64, 128), "stage_depths": (2, 4), "width": 384, "depth": 14, "heads": 6, "mlp": 768},
    "base": {**_PAPER, "stem": 128, "stages": (128, 256), "stage_depths": (2, 4), "width": 768, "depth": 14, "heads": 12, "mlp": 1536},
    "large": {**_PAPER, "stem": 160, "stages": (160, 320), "stage_depths": (2, 4), "width": 1024, "depth": 31, "heads": 16, "mlp": 2048},
    "study": {
        "image_size": (32, 32),
        "stem_stride": 1,
        "stem": 16,
        "stages": (16, 32),
        "stage_depths": (1, 1),
        "width": 64,
        "depth": 4,
        "heads": 2,
        "mlp": 128,
    },
}


def vitamin(size: str) -> HybridConfig:
    """The config of a published size (``small``, ``base``, ``large``) or of ``study``; another name is a :class:`UsageError`."""
    if size not in SIZES:
        raise UsageError(f"ViTamin size {size!r}", "no such size", nearest(size, SIZES))
    return HybridConfig(**SIZES[size])
