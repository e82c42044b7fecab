"""GenHancer's two stages against training denoiser and tower together: the detail probe, and zero-shot accuracy kept.

Paper: two stages with the global token alone; MMVP-VLM 31.9 against 19.3 for OpenAI's CLIP and 25.9 for DIVA (table 1);
end-to-end training loses more than 5 points (figure 6).
"""

from __future__ import annotations

from common import Claim, main
from details import detail
from measures import together, zero_shot
from starts import WARM, warm

from diptych.engine.run import ObjectiveConfig

TOGETHER = ObjectiveConfig(name="genhancer", options={"end_to_end": True, "first": 0.0})

CLAIM = Claim(
    id="genhancer",
    baseline=warm(steps=300, objective=TOGETHER),
    method=warm(steps=300, objective=ObjectiveConfig(name="genhancer")),
    measure=together(detail, zero_shot),
    primary="detail probe",
    start=WARM,
    names=("end to end", "two stages"),
    note="300 steps, 180 of which train the denoiser alone in the two-stage arm. No text takes part in either arm.",
)

if __name__ == "__main__":
    main(CLAIM)
