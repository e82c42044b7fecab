"""FLIP: what leaving out a random half of the patches costs at equal steps, and what it spares.

Paper: at equal time, masking half lets a run see twice the pairs, and wins (figure 1 and table 1). At equal steps it must lose: the effect
here is of training on all patches against training on a random half, and the cost is that of all against half.
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
    note="At equal steps; the paper's gain is at equal time.",
)

if __name__ == "__main__":
    main(CLAIM)
