"""un²CLIP against the model it starts from: the detail probe, and zero-shot accuracy kept without any text.

Paper: better than CLIP on MMVP-VLM and open-vocabulary segmentation, still aligned with texts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common import Claim, main, train_run
from details import detail
from measures import together, zero_shot
from starts import WARM, warm

from diptych.engine.run import ObjectiveConfig, Run


def train(run: Run, folder: Path, progress: bool) -> Any:
    """The start itself for the baseline; training for the method."""
    if run.objective.name == "un2clip":
        return train_run(run, folder, progress)
    from diptych.towers.formats.load import load

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cost.json").write_text(json.dumps({"processor_seconds": None}))
    return load(str(run.init.from_))


CLAIM = Claim(
    id="un2clip",
    baseline=warm(steps=1),
    method=warm(steps=300, objective=ObjectiveConfig(name="un2clip")),
    measure=together(detail, zero_shot),
    primary="detail probe",
    start=WARM,
    train=train,
    names=("the start", "un²CLIP"),
    note="The baseline is the start, untrained further. 300 steps, the first 180 of which train the denoiser alone; no text takes part.",
)

if __name__ == "__main__":
    main(CLAIM)
