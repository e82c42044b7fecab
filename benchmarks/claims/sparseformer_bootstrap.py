"""A bootstrapped SparseFormer: zero-shot without having seen a word, against the same tower untrained and against its teacher.

Paper: from CLIP's ViTs, without captions, notable zero-shot accuracy at much less computation; 84.9 % on ImageNet with 49 tokens from
AugReg ViT-L/16 (abstract).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from common import Claim, Values, cache_folder, key_of, main, train_run
from measures import zero_shot
from starts import FROZEN, frozen
from torch.utils.flop_counter import FlopCounterMode

from diptych.engine.run import InitConfig, ObjectiveConfig, Run
from diptych.towers.formats.load import load
from diptych.towers.formats.native import save_native
from diptych.towers.sparseformer import bootstrap

SMALL: dict[str, Any] = {"tokens": 16, "stem": 16, "stem_stride": 2, "points": 9, "mixer": 32}
SMALL |= {"focus_width": 48, "focus_heads": 3, "repeats": 2}
STEPS = 300
TEACHER = frozen("study-vit", objective=ObjectiveConfig(name="clip"))
START = f"bootstrapped from a ViT of 64 patches ({FROZEN}); pictures only"


def student(steps: int = STEPS) -> Run:
    """A run on the bootstrapped tower; where it starts from is put in by :func:`taught`."""
    return frozen("study-vit", steps=steps, objective=ObjectiveConfig(name="sparseformer-bootstrap"))


def taught(run: Run, folder: Path, progress: bool) -> Any:
    """The teacher, the bootstrapped tower as it begins, or that tower taught: by the run's objective and steps."""
    plain = TEACHER if run.budget.steps in (1, STEPS) else TEACHER.with_set(f"budget.steps={run.budget.steps}")
    plain = plain.model_copy(update={"seed": run.seed, "name": "claim"})
    where = cache_folder() / "runs" / key_of(plain)
    teacher = train_run(plain, where, progress)
    folder.mkdir(parents=True, exist_ok=True)
    if run.objective.name == "clip":
        return teacher
    begun = folder / "begun"
    if not begun.exists():
        save_native(bootstrap(teacher, skip=1, seed=run.seed, **SMALL), begun)
    if run.budget.steps == 1:
        return load(str(begun))
    objective = ObjectiveConfig(name=run.objective.name, options={"teacher": str(where / "model"), "tune": 1})
    return train_run(run.model_copy(update={"init": InitConfig(from_=str(begun)), "objective": objective}), folder, progress)


def measure(model: Any) -> dict[str, Values]:
    """Zero-shot hits on the unseen styles, and millions of multiplications of the image tower for one picture."""
    model.eval()
    with FlopCounterMode(display=False) as counter:  # its hooks want a graph
        model.image(torch.zeros(1, 3, *model.config.preprocess.size))
    return {**zero_shot(model), "million multiplications a picture": Values.of(counter.get_total_flops() / 2e6)}


def claim(baseline: Run, name: str, note: str, aim: float = 0.0) -> Claim:
    """The taught tower against something."""
    return Claim(
        id="sparseformer-bootstrap",
        baseline=baseline,
        method=student(),
        measure=measure,
        primary="zero-shot top-1",
        start=START,
        train=taught,
        lower=frozenset({"million multiplications a picture"}),
        names=(name, "bootstrapped"),
        note=note,
        aim=aim,
    )


CLAIMS = [
    claim(student(1), "the same tower before training", "16 tokens in place of 64 patches. Holds where it is five points above.", 0.05),
    claim(TEACHER, "its teacher", "What is lost on the way, and what it costs to run."),
]

if __name__ == "__main__":
    main(*CLAIMS)
