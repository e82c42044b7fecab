"""A few steps of an objective on composed scenes with the small preset, whose preprocessing is made to show whole pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from few_steps import ALONE, Taught

from diptych.data.pictograms.scenes import SceneConfig, Scenes
from diptych.engine.build import build_loader, build_model
from diptych.engine.run import Run
from diptych.engine.step import Stepper
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset

NAMES = ("dog", "automobile", "banana", "hammer", "violin", "rocket", "snail")
CONFIG = SceneConfig(concepts=NAMES, tint=1.0, count=(2, 3), words="names")


def squashing() -> DualEncoder:
    """The small preset, whose preprocessing squashes."""
    config = preset("tiny")
    return DualEncoder(config.model_copy(update={"preprocess": replace(config.preprocess, resize="squash")}))


def few_scenes(name: str, *assignments: str, steps: int = 4, rows: int = 12, config: SceneConfig = CONFIG, count: int = 48) -> Taught:
    """Train ``objective.name`` for ``steps`` steps of ``rows`` scenes each."""
    plain: dict[str, Any] = {
        "name": "few",
        "init": {"preset": "tiny"},
        "data": {"batch": rows, "workers": 0},
        "budget": {"steps": steps},
        "precision": "off",
        "objective": {"name": name},
    }
    run = Run.from_dict(plain).with_set(*assignments)
    model = squashing() if run.init.preset == "tiny" else build_model(run)
    with build_loader(run, Scenes("train", count, config), model, ALONE) as loader:
        stepper = Stepper(run, model, ALONE)
        before = {key: p.detach().clone() for key, p in stepper.objective.method.named_parameters()}
        stepped = [stepper(next(loader), step, 3e-3) for step in range(steps)]
    losses = [float(done.loss) for done in stepped]
    return Taught(stepper, before, losses, [{key: float(value.detach()) for key, value in done.terms.items()} for done in stepped])
