"""Data and measures of the claims about regions: scenes of two things, and what a model makes of a box.

Shapes: N scenes, R regions, P patches, K classes, D joint width, W the tower's width.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import Values, train_run
from measures import texts
from patches import NAMES, scenes, tokens
from starts import warm
from torch import Tensor
from torch.nn import functional as F

from diptych.core import registry
from diptych.core.types import Sample
from diptych.data.augment import Augment
from diptych.data.pictograms.scenes import SceneConfig, Scenes
from diptych.engine.checkpoint import Checkpoints, put_all
from diptych.engine.options import options_of
from diptych.engine.run import DataConfig, Run
from diptych.evaluate.metrics.retrieval import ranks

TWO = SceneConfig(concepts=NAMES, count=(2, 2), sides=(0.35, 0.55), tint=0.0, words="names")
STILL = Augment(brightness=0.2, contrast=0.2)  # moves no pixel and keeps colours
GENTLE = Augment(scale=(0.9, 1.1), shift=0.05, flip=0.5, brightness=0.2, contrast=0.2)
COUNT, TRIED = 4096, 384


def arm(augment: Augment, steps: int = 300, **settings: Any) -> Run:
    """Both towers (the picture's with 64 patches) trained on from the warm start, on scenes."""
    run = warm("study-vit", steps=steps, **settings)
    return run.model_copy(update={"data": DataConfig(path="scenes/train", batch=128, augment=augment, workers=0, caption="first")})


def with_head(config: SceneConfig) -> Callable[[Run, Path, bool], Any]:
    """Trains on scenes; the model that comes back carries the objective's trained part, where it has one, as ``region_head``."""

    def train(run: Run, folder: Path, progress: bool) -> Any:
        model = train_run(run, folder, progress, Scenes("train", COUNT, config))
        module = registry.find(run.objective.name, "objective").load()
        saved = Checkpoints(folder / "checkpoints", 1).load()
        if hasattr(module, "Method") and saved is not None:
            head = module.Method(model, module.Options(**options_of("objective", run.objective)))
            put_all(head, saved.tensors["objective"], str(folder))
            model.region_head = head.eval()
        return model

    return train


@torch.no_grad()
def rows_of_boxes(model: Any, samples: tuple[Sample, ...]) -> Tensor:
    """Unit rows (N, R, D) of the boxes of scenes: by the prompter where there is one, else the mean of the tokens in the box, projected.

    A patch is in the box as far as the box covers it.
    """
    tokens_NPW = tokens(model, samples)
    box_NR4 = torch.tensor([sample.meta["boxes"] for sample in samples])
    side = round(tokens_NPW.shape[1] ** 0.5)
    prompter = getattr(getattr(model, "region_head", None), "prompter", None)
    if prompter is not None:
        return prompter.regions(tokens_NPW, (side, side), box_NR4).float()
    low = torch.arange(side) / side
    across, down = (
        (torch.minimum(box_NR4[..., i + 2, None], low + 1 / side) - torch.maximum(box_NR4[..., i, None], low)).clamp_min(0) for i in (0, 1)
    )
    weight_NRP = (down[..., :, None] * across[..., None, :]).flatten(-2)
    inside_NRW = weight_NRP @ tokens_NPW / weight_NRP.sum(-1, keepdim=True)
    return F.normalize(model.image_projection(inside_NRW), dim=-1).float()


def regions(model: Any) -> dict[str, Values]:
    """Which of the twelve concepts a box shows, in scenes of unseen styles; scenes are resampled."""
    samples = scenes("style", TRIED, TWO, 1)
    text_KD = texts(model, [f"a {name}" for name in NAMES])
    told_NR = (rows_of_boxes(model, samples) @ text_KD.T).argmax(-1)
    true_NR = torch.tensor([[NAMES.index(name) for name in sample.meta["regions"]] for sample in samples])
    scene_NR = torch.arange(len(samples))[:, None].expand_as(true_NR)
    return {"region zero-shot top-1": Values.of((told_NR == true_NR).double(), scene_NR.reshape(-1))}


def whole(model: Any, config: SceneConfig = TWO, k: int = 5) -> dict[str, Values]:
    """Recall of captions and scenes, equal captions all right."""
    samples = scenes("style", TRIED, config, 1)
    words = [sample.captions[0] for sample in samples]
    image_ND, text_ND = model.encode_image(list(samples)), texts(model, words)
    number = {word: i for i, word in enumerate(dict.fromkeys(words))}
    group_N = torch.tensor([number[word] for word in words])
    return {
        f"image to text recall@{k}": Values.of((ranks(image_ND, text_ND, group_N, group_N) < k).double()),
        f"text to image recall@{k}": Values.of((ranks(text_ND, image_ND, group_N, group_N) < k).double()),
    }
