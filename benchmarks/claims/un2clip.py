"""un²CLIP against the model it starts from: the detail probe, and zero-shot accuracy kept without any text.

Paper: better than CLIP on MMVP-VLM and open-vocabulary segmentation, still aligned with texts.
"""

from __future__ import annotations

from common import Claim, main
from details import detail
from measures import together, zero_shot
from starts import WARM, start_of, train_unless_start, warm

from diptych.engine.run import ObjectiveConfig

METHOD = warm(steps=300, objective=ObjectiveConfig(name="un2clip"))

CLAIM = Claim(
    id="un2clip",
    baseline=start_of(METHOD),
    method=METHOD,
    measure=together(detail, zero_shot),
    primary="detail probe",
    start=WARM,
    train=train_unless_start,
    names=("the start", "un²CLIP"),
    note="The baseline is the start, untrained further. 300 steps, the first 180 of which train the denoiser alone; no text takes part.",
)

if __name__ == "__main__":
    main(CLAIM)
