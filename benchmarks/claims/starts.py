"""What the arms of a claim start from, and the settings that they share.

Two small towers from nothing sit on the ln(batch) plateau for 70,000 samples and more on two cores. So either the text side is that of
``mini``, frozen (:func:`frozen`), or both arms start from one warm start: an image tower trained against that frozen text side, after which
both towers are trained (:func:`warm`). Data are the set ``study/train``: 459 concepts in seven styles, 2,760 drawings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import cache_folder, key_of, train_run

from diptych.data.augment import Augment
from diptych.engine.run import BudgetConfig, DataConfig, InitConfig, OptimConfig, Run, SaveConfig

AUGMENT = Augment(scale=(0.8, 1.25), shift=0.12, flip=0.3, brightness=0.3, contrast=0.3, saturation=0.5, hue=0.1, grayscale=0.15)
RATES = {"study-conv": 2e-3, "study-conv-group": 2e-3, "study-vit": 2e-3}
FROZEN = "image tower from nothing against mini's frozen text side"
SEEING = "image tower trained for 1,000 steps of batch 256 on all patches against mini's frozen text side, which stays frozen"
WARM = "both towers from one warm start (the image tower trained for 300 steps against mini's text side, frozen until then)"


def frozen(preset: str = "study-conv", steps: int = 300, batch: int = 256, data: str = "study/train", **settings: Any) -> Run:
    """An image tower (``study-conv``, or ``study-vit`` of 64 patches; both at 32 px) against the captions' rows of mini's text side.

    Args:
        settings: parts of the run that replace these (``objective=…``, ``tokens=…``).
    """
    parts: dict[str, Any] = {
        "init": InitConfig(preset=preset, text_from="mini", freeze=("text", "text_projection")),
        "data": DataConfig(path=data, batch=batch, augment=AUGMENT, workers=0),
        "optim": OptimConfig(lr=RATES[preset], warmup=0.05),
        "budget": BudgetConfig(steps=steps),
        "save": SaveConfig(every=100, log_every=20, keep=1),
    }
    return Run(name="claim", **{**parts, **settings})


def warm(preset: str = "study-conv", steps: int = 200, batch: int = 128, data: str = "study/train", **settings: Any) -> Run:
    """Both towers trained on from the warm start of ``preset``."""
    parts: dict[str, Any] = {
        "init": InitConfig(from_=str(warm_start(preset))),
        "data": DataConfig(path=data, batch=batch, augment=AUGMENT, workers=0),
        "optim": OptimConfig(lr=3e-4, warmup=0.1),
        "budget": BudgetConfig(steps=steps),
        "save": SaveConfig(every=100, log_every=20, keep=1),
    }
    return Run(name="claim", **{**parts, **settings})


def seeing(
    preset: str = "study-vit",
    steps: int = 300,
    batch: int = 128,
    data: str = "study/train",
    on: Any = None,
    area: float = 0.0,
    **settings: Any,
) -> Run:
    """An image tower that sees already, trained on against mini's frozen text side: attention and views mean little before.

    Args:
        on: the data set of the start, in place of ``study/train``.
        area: where above 0, the start's pictures are only cropped, to at least this share of theirs.
    """
    start = frozen(preset, steps=1000).model_copy(update={"seed": 100})
    start = cropped(start, area) if area else start
    folder = cache_folder() / "starts" / key_of(start, *([str(on.fingerprint())] if on is not None else []))
    train_run(start, folder, False, on)
    parts: dict[str, Any] = {
        "init": InitConfig(from_=str(folder / "model"), freeze=("text", "text_projection")),
        "data": DataConfig(path=data, batch=batch, augment=AUGMENT, workers=0),
        "optim": OptimConfig(lr=5e-4, warmup=0.1),
        "budget": BudgetConfig(steps=steps),
        "save": SaveConfig(every=100, log_every=20, keep=1),
    }
    return Run(name="claim", **{**parts, **settings})


def warm_start(preset: str) -> Path:
    """The folder of the warm start's model, trained where it is not there yet: seed 100 of :func:`frozen`."""
    run = frozen(preset).model_copy(update={"seed": 100})
    folder = cache_folder() / "starts" / key_of(run)
    train_run(run, folder, False)
    return folder / "model"


def cropped(run: Run, area: float) -> Run:
    """A run whose pictures are only cropped, to at least ``area`` of theirs, as the first papers on CLIP's descendants do."""
    augment = Augment(crop_area=(area, 1.0), crop_ratio=(3 / 4, 4 / 3))
    return run.model_copy(update={"data": run.data.model_copy(update={"augment": augment})})


def start_of(run: Run) -> Run:
    """The arm that is the start itself: :func:`train_unless_start` trains it not at all."""
    return run.with_set("budget.steps=1")


def train_unless_start(run: Run, folder: Path, progress: bool) -> Any:
    """The start's model where :func:`start_of` made the arm, else the trained one."""
    if run.budget.steps != 1:
        return train_run(run, folder, progress)
    from diptych.towers.formats.load import load

    folder.mkdir(parents=True, exist_ok=True)
    return load(str(run.init.from_))
