"""ViTamin's form against a plain ViT of equal parameters and equally many tokens: zero-shot accuracy on unseen styles after equal steps.

Paper: ViTamin-L 2.0 points of ImageNet zero-shot above ViT-L on DataComp-1B under one recipe.
"""

from __future__ import annotations

from common import Claim, main
from measures import zero_shot
from starts import FROZEN, frozen

from diptych.engine.run import InitConfig

BASELINE = frozen("study-vit", steps=250, batch=128)
METHOD = BASELINE.model_copy(update={"init": InitConfig(preset="study-vitamin", text_from="mini", freeze=("text", "text_projection"))})

CLAIM = Claim(
    id="vitamin",
    baseline=BASELINE,
    method=METHOD,
    measure=zero_shot,
    primary="zero-shot top-1",
    start=FROZEN,
    note=(
        "Image towers of 204 k (hybrid: stem of 16 channels, stages of 16 and 32, 4 gated blocks) and 207 k parameters (ViT: 4 blocks), "
        "both of width 64 with 8×8 tokens at 32 px; same learning rate for both."
    ),
    names=("vit", "vitamin"),
)

if __name__ == "__main__":
    main(CLAIM)
