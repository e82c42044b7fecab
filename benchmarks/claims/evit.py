"""EViT at keep rate 0.7 against keeping as many at random in the same blocks, without training.

Paper: DeiT-S half as fast again at −0.3 points on ImageNet, trained with the method; here the tower has not met it.
"""

from __future__ import annotations

from common import Claim, main
from shelf import TRAINED, fidelity_and_retrieval, off_the_shelf, tokens, vit_with

CLAIM = Claim(
    id="evit",
    baseline=vit_with(tokens("evit", keep=0.7, choose="random")),
    method=vit_with(tokens("evit", keep=0.7)),
    measure=fidelity_and_retrieval,
    primary="study-vit: text to image reciprocal rank",
    start=TRAINED,
    train=off_the_shelf,
    names=("random choice", "evit"),
    note="Three of four blocks keep 0.7 of their patch tokens and one fused token: 64 become 25. mini has no class token to ask.",
)

if __name__ == "__main__":
    main(CLAIM)
