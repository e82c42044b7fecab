"""CLOC against CLIP on scenes of two things: what is in a box, and captions and scenes as a whole.

Paper: with the prompter, recognition and retrieval of regions without further training, better than by pooling a region's tokens;
ImageNet 74.9 beside CLIP's 76.2 (table 2, which has no figures of CLIP for regions). CLIP's row of a box here is the mean of its patch
tokens in the box, through its projection, without a crop; CLOC's comes from the prompter that was trained with it.
"""

from __future__ import annotations

from common import Claim, main
from measures import together
from regional import COUNT, GENTLE, TWO, arm, regions, whole, with_head
from starts import WARM

from diptych.data.pictograms.scenes import Scenes
from diptych.engine.run import ObjectiveConfig

CLAIM = Claim(
    id="cloc",
    baseline=arm(GENTLE, objective=ObjectiveConfig(name="clip")),
    method=arm(GENTLE, objective=ObjectiveConfig(name="cloc")),
    measure=together(regions, whole),
    primary="region zero-shot top-1",
    start=WARM,
    train=with_head(TWO),
    dataset=lambda name: Scenes("train", COUNT, TWO),
    note="Scenes of two things out of twelve concepts, in styles never trained on; the box is told, chance is 1/12.",
)

if __name__ == "__main__":
    main(CLAIM)
