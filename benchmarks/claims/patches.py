"""What the patch tokens of an image tower know: a linear probe from each token to what lies in its patch, on composed scenes.

The probe is a multinomial logistic regression on standardised tokens, fitted on scenes in the training styles and tried on scenes in styles
never trained on. The label of a patch is exact: the thing that most of its pixels belong to, 0 for the ground.

mIoU is the mean over classes of intersection over union, counted over all patches; the mIoU of a scene is the same within one scene, over
the classes that it shows, which gives a number for each scene and so an interval. Accuracy on things leaves out patches of ground.

Shapes: N scenes, P patches, W the tower's width, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from common import Values
from torch import Tensor

from diptych.core.types import Sample
from diptych.data import pictograms
from diptych.data.pictograms.scenes import SceneConfig, Scenes, mask, patch_labels

NAMES = ("dog", "cat", "banana", "pizza", "automobile", "bicycle", "airplane", "house", "guitar", "key", "carrot", "butterfly")
CONFIG = SceneConfig(concepts=NAMES, count=(2, 3), sides=(0.35, 0.5), tint=0.0, words="names")
FIT, TRY = 384, 256


_MADE: dict[tuple[str, int, str, int], tuple[Sample, ...]] = {}


def scenes(split: str, count: int, config: SceneConfig = CONFIG, seed: int = 0) -> tuple[Sample, ...]:
    """Scenes, made once."""
    key = (split, count, config.model_dump_json(), seed)
    if key not in _MADE:
        _MADE[key] = tuple(Scenes(split, count, config, seed))
    return _MADE[key]


def classes(config: SceneConfig) -> dict[int, int]:
    """Class of a patch by the label of its concept, from 1 on; 0 is the ground."""
    wanted = set(config.concepts or ())
    return {label: number for number, label in enumerate((i for i, c in enumerate(pictograms.concepts()) if c.name in wanted), start=1)}


def labels(samples: Sequence[Sample], side: int, config: SceneConfig = CONFIG) -> np.ndarray:
    """The class of every patch of a ``side`` × ``side`` grid, (N, P)."""
    of = classes(config)
    rows = []
    for sample in samples:
        table = np.array([0, *(of[label] for label in sample.meta["labels"])])
        found = mask(sample)
        rows.append(table[patch_labels(found, len(found) // side)].reshape(-1))
    return np.stack(rows)


@torch.no_grad()
def tokens(model: Any, samples: Sequence[Sample]) -> Tensor:
    """Patch tokens (N, P, W) after the tower's final norm, float32."""
    from diptych.towers.encode import evaluating, pixels

    parts = []
    with evaluating(model):
        for start in range(0, len(samples), 256):
            batch = torch.stack([pixels(sample, model.config.preprocess) for sample in samples[start : start + 256]])
            parts.append(model.image(model.normalise(batch), taps=frozenset({"image.tokens"}))[1]["image.tokens"].float())
    return torch.cat(parts)


def iou(told: np.ndarray, true: np.ndarray, count: int) -> np.ndarray:
    """Intersection over union of each class; NaN for a class that neither says."""
    table = np.bincount(true.reshape(-1) * count + told.reshape(-1), minlength=count * count).reshape(count, count)
    both, union = np.diag(table), table.sum(0) + table.sum(1) - np.diag(table)
    return np.where(union > 0, both / np.maximum(union, 1), np.nan)


def of_scene(told: np.ndarray, true: np.ndarray, count: int) -> float:
    """Mean IoU over the classes that a scene shows."""
    return float(iou(told, true, count)[np.unique(true)].mean())


def probe(model: Any, config: SceneConfig = CONFIG, strength: float = 0.1) -> np.ndarray:
    """The classes that the probe tells for the patches of the trial scenes, (N, P).

    Args:
        strength: inverse of the L2 penalty, the same for every arm.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known, asked = scenes("train", FIT, config), scenes("style", TRY, config, 1)
    x_NPW, z_NPW = tokens(model, known), tokens(model, asked)
    side = round(x_NPW.shape[1] ** 0.5)
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300, tol=1e-3))
    fitted.fit(x_NPW.flatten(0, 1).numpy(), labels(known, side, config).reshape(-1))
    return fitted.predict(z_NPW.flatten(0, 1).numpy()).reshape(z_NPW.shape[:2])


def patch_probe(model: Any) -> dict[str, Values]:
    """mIoU within each scene (scenes are resampled), mIoU over all patches, and accuracy on patches of things."""
    told = probe(model)
    true = labels(scenes("style", TRY, CONFIG, 1), round(told.shape[1] ** 0.5))
    count = len(classes(CONFIG)) + 1
    per_scene = torch.tensor([of_scene(t, y, count) for t, y in zip(told, true, strict=True)])
    thing = true > 0
    hit = torch.from_numpy((told == true)[thing]).double()
    scene = torch.from_numpy(np.broadcast_to(np.arange(len(true))[:, None], true.shape)[thing].copy())
    return {
        "patch mIoU of a scene": Values.of(per_scene),
        "patch mIoU": Values.of(float(np.nanmean(iou(told, true, count)))),
        "patch accuracy on things": Values.of(hit, scene),
    }
