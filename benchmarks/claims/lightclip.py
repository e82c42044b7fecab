"""LightCLIP against CLIP at equal steps, small towers: retrieval.

Paper: better on several downstream tasks at no further cost of inference; the check here is retrieval over plain InfoNCE.
"""

from __future__ import annotations

from common import Claim, main
from measures import retrieval, together, zero_shot
from starts import WARM, warm

from diptych.engine.run import ObjectiveConfig

CLAIM = Claim(
    id="lightclip",
    baseline=warm("study-vit", objective=ObjectiveConfig(name="clip")),
    method=warm("study-vit", objective=ObjectiveConfig(name="lightclip")),
    measure=together(retrieval, zero_shot),
    primary="image to text recall@10",
    start=WARM,
    note="A ViT in both arms, since matching needs patch tokens. Heads and fusion blocks are gone afterwards.",
)

if __name__ == "__main__":
    main(CLAIM)
