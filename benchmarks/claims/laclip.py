"""LaCLIP's rewrites against one caption a picture, at equal steps: naming drawings in unseen styles with unseen wordings.

Paper: ImageNet zero-shot +8.2 points on CC12M. Here both arms have one caption a picture, its name; the method's rewrites are made by rules
from the sample's own words. None of the wordings asked for is a frame of the rules or a template of the text side's training.
"""

from __future__ import annotations

from typing import Any

import torch
from common import Claim, Values, main
from measures import samples_of, texts, zero_shot
from starts import AUGMENT, WARM
from told import arm

from diptych.engine.run import DataConfig, RewriteConfig

WORDINGS = (
    "a child made this doodle of {}",
    "somewhere on this page you find {}",
    "look, {}!",
    "my favourite emoji on the phone is {}",
    "{} in the style of a modern app",
    "guess: it has something to do with {}",
)
DATA = {"path": "study/train", "batch": 128, "augment": AUGMENT, "workers": 0, "caption": "first"}


def unseen_wording(model: Any) -> dict[str, Values]:
    """Hits at 1 on the unseen styles, the mean over wordings; concepts are resampled."""
    samples, classes = samples_of("study/zero-shot")
    image_ND = model.encode_image(list(samples))
    target_N = torch.tensor([sample.label for sample in samples])
    hit_WN = torch.stack(
        [(image_ND @ texts(model, [wording.format(name) for name in classes]).T).argmax(1) == target_N for wording in WORDINGS]
    )
    return {"zero-shot top-1, unseen wordings": Values.of(hit_WN.double().mean(0), target_N), **zero_shot(model)}


CLAIM = Claim(
    id="laclip",
    baseline=arm(DataConfig(**DATA)),
    method=arm(DataConfig(**DATA, rewrite=RewriteConfig(name="laclip"))),
    measure=unseen_wording,
    primary="zero-shot top-1, unseen wordings",
    start=WARM,
    note="Both arms train on the name alone (caption=first); rewrites by the four shipped rules, the original kept with 1/(M + 1). "
    f"The mean over {len(WORDINGS)} wordings that neither the rules nor the warm start's text side have seen.",
)

if __name__ == "__main__":
    main(CLAIM)
