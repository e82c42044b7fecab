"""FLIP: what leaving out a random half of the patches costs at equal steps, and what it spares.

Paper: after equally many pairs and at the same batch, half of the patches give 68.5 % of zero-shot ImageNet and all of them 68.6 %; with
twice the batch half win by 1.2 points, in half the time (tables 1a and 1b). Here steps and batch are equal, so no gain is to be expected:
the effect is of training on all patches against training on a random half, and the cost is that of all against half.
"""

from __future__ import annotations

from common import Claim, main
from measures import retrieval, together, zero_shot
from starts import FROZEN, frozen

from diptych.engine.run import ObjectiveConfig, TokensConfig

CLIP = ObjectiveConfig(name="clip")
CLAIM = Claim(
    id="random-mask",
    baseline=frozen("study-vit", objective=CLIP, tokens=TokensConfig(name="random-mask", options={"ratio": 0.5})),
    method=frozen("study-vit", objective=CLIP),
    measure=together(zero_shot, retrieval),
    primary="zero-shot top-1",
    start=FROZEN,
    names=("a random half", "all patches"),
    note="At equal steps; the paper's gain comes with twice the batch, in half the time.",
)

if __name__ == "__main__":
    main(CLAIM)
