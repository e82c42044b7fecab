"""SLIP against CLIP at equal steps: zero-shot accuracy on unseen styles, and a linear probe on the tower's pooled rows.

Paper: ImageNet zero-shot +5.2 points on CLIP, linear probe +8.1 points on self-supervision (abstract).
"""

from __future__ import annotations

from common import Claim, main
from measures import together, zero_shot
from pictures import frozen_rows
from starts import FROZEN, frozen

from diptych.engine.run import ObjectiveConfig

STEPS, BATCH, PRESET = 300, 128, "study-vit"

CLAIM = Claim(
    id="slip",
    baseline=frozen(PRESET, STEPS, BATCH, objective=ObjectiveConfig(name="clip")),
    method=frozen(PRESET, STEPS, BATCH, objective=ObjectiveConfig(name="slip")),
    measure=together(zero_shot, frozen_rows),
    primary="zero-shot top-1",
    start=FROZEN,
    note="Equal steps; two views more a picture, so about three times the cost. A ViT, since a batch norm would mix pictures and views.",
    names=("CLIP", "method"),
)

if __name__ == "__main__":
    main(CLAIM)
