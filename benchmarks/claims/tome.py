"""ToMe against merging without looking, at half the tokens and without training.

Paper: without training, ViT-L and ViT-H lose 0.2 to 0.3 points at twice the throughput (abstract).
"""

from __future__ import annotations

from common import Claim, main
from shelf import DRAWS, SHIPPED, TRAINED, fidelity_and_retrieval, mini_with, off_the_shelf, tokens, vit_with

HALF, BLIND = tokens("tome", ratio=0.5), tokens("tome", ratio=0.5, matching="random")
NAMES = ("random matching", "tome")
VIT = Claim(
    id="tome",
    baseline=vit_with(BLIND),
    method=vit_with(HALF),
    measure=fidelity_and_retrieval,
    primary="study-vit: text to image reciprocal rank",
    start=TRAINED,
    train=off_the_shelf,
    names=NAMES,
    note="Half of the 64 patches are merged over four blocks. The effect is against merging as many at random.",
)
MINI = Claim(
    id="tome",
    baseline=mini_with(BLIND),
    method=mini_with(HALF),
    measure=fidelity_and_retrieval,
    primary="mini: text to image reciprocal rank",
    start=SHIPPED,
    train=off_the_shelf,
    seeds=DRAWS,
    names=NAMES,
    note="mini has 16 tokens after its convolutions and takes their mean: merging half of them, in whatever way, hardly changes a hit.",
)
EARLY = Claim(
    id="tome",
    baseline=vit_with(HALF),
    method=vit_with(tokens("tome", ratio=0.5, spread="early")),
    measure=fidelity_and_retrieval,
    primary="study-vit: text to image reciprocal rank",
    start=TRAINED,
    train=off_the_shelf,
    names=("evenly over the blocks", "all in the first block"),
    note="What it costs to merge all at once (spread=early), which takes 0.55 of a full training step's time in place of 0.80.",
)

if __name__ == "__main__":
    main(VIT, MINI, EARLY)
