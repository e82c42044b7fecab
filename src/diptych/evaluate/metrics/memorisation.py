"""Memorisation of single pictures by an encoder that learns without labels.

Paper: Wang et al., Memorization in Self-Supervised Learning Improves Downstream Generalization (arXiv:2401.12233), section 3: the
alignment loss of a picture is the mean distance of the rows of its augmented views, and a picture is memorised as far as encoders that
were trained with it have a lower one than encoders that were trained without it.

    align(f, x) = mean over pairs of views (v, w) of x of |f(v) − f(w)|
    memorised(x) = align(g, x) − align(f, x)                       # f was trained with x, g without it

Unit rows give align in [0, 2] and memorised in [−2, 2]; the paper divides by the largest possible value, so it is halved here: [−1, 1].
Shapes: V views, N pictures, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.core.types import Sample
from diptych.data.augment import Augment, apply, draw

AUGMENT = Augment(crop_area=(0.5, 1.0), crop_ratio=(0.75, 4 / 3), flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4)
VIEWS = 3


def alignment_loss(rows_VND: Tensor) -> Tensor:
    """Mean distance of a picture's views, float64 ``N``: 0 where all views have one row.

    Raises:
        UsageError: fewer than two views.
    """
    if len(rows_VND) < 2:
        raise UsageError("alignment loss", f"{len(rows_VND)} view", "Give at least two views a picture")
    pairs = [(v, w) for v in range(len(rows_VND)) for w in range(v + 1, len(rows_VND))]
    rows_VND = rows_VND.double()
    return torch.stack([(rows_VND[v] - rows_VND[w]).norm(dim=1) for v, w in pairs]).mean(0)


def view_of(image_NCHW: Tensor, seed: int, name: str, augment: Augment = AUGMENT) -> Tensor:
    """One augmented view of uint8 pictures; the same seed and name draw the same numbers for every model."""
    return apply(image_NCHW, draw(augment, len(image_NCHW), generator(seed, "view", name)))


def memorised(
    trained_with: Any, trained_without: Any, samples: Sequence[Sample], *, views: int = VIEWS, augment: Augment = AUGMENT, seed: int = 0
) -> Tensor:
    """The memorisation score of each picture, float64 ``N`` in [−1, 1]; above 0 where the model that saw it aligns its views better.

    Args:
        trained_with, trained_without: models of one recipe, whose training sets differ in ``samples`` alone; both see the same views.
        views: how many a picture.

    Raises:
        UsageError: fewer than two views.
    """
    from diptych.towers.encode import pixels

    losses = []
    for model in (trained_with, trained_without):
        image_NCHW = torch.stack([pixels(sample, model.config.preprocess) for sample in samples])
        losses.append(alignment_loss(torch.stack([model.encode_image(view_of(image_NCHW, seed, str(v), augment)) for v in range(views)])))
    return (losses[1] - losses[0]) / 2
