"""GRAIN against CLIP on scenes of two tinted things: naming things in colours that they never had in training.

Paper: zero-shot recognition on 11 data sets above earlier methods, and of novel concepts (Products-2023); no single figure (abstract).
"""

from __future__ import annotations

from typing import Any

import torch
from common import Claim, Values, main
from measures import texts, together
from patches import NAMES, scenes
from regional import COUNT, STILL, TRIED, arm, whole
from starts import WARM

from diptych.data.pictograms.scene_drawings import COLOURS
from diptych.data.pictograms.scenes import SceneConfig, Scenes
from diptych.engine.run import ObjectiveConfig

SEEN = SceneConfig(concepts=NAMES, count=(2, 2), sides=(0.35, 0.55), tint=1.0, combinations="seen", words="names")
ALONE = SceneConfig(concepts=NAMES, count=(1, 1), same=1.0, sides=(0.5, 0.9), tint=1.0, combinations="unseen", words="names")
DESCRIPTIONS = tuple(f"{colour} {name}" for colour in COLOURS for name in NAMES)


def described(model: Any) -> dict[str, Values]:
    """Which of all 72 descriptions (colour and name) a single thing has, in a combination and a style never trained on."""
    samples = scenes("style", TRIED, ALONE, 1)
    image_ND, text_KD = model.encode_image(list(samples)), texts(model, [f"a {words}" for words in DESCRIPTIONS])
    true_N = torch.tensor([DESCRIPTIONS.index(sample.meta["regions"][0]) for sample in samples])
    return {"zero-shot by unseen descriptions": Values.of(((image_ND @ text_KD.T).argmax(1) == true_N).double(), true_N)}


def seen(model: Any) -> dict[str, Values]:
    """Retrieval among scenes of combinations that were trained on."""
    return whole(model, SEEN)


CLAIM = Claim(
    id="grain",
    baseline=arm(STILL, objective=ObjectiveConfig(name="clip")),
    method=arm(STILL, objective=ObjectiveConfig(name="grain")),
    measure=together(described, seen),
    primary="zero-shot by unseen descriptions",
    start=WARM,
    dataset=lambda name: Scenes("train", COUNT, SEEN),
    note="Twelve concepts in six colours; about one pair of concept and colour in five never occurs in training, and the test has these "
    "alone, one thing a picture. Chance is 1/72.",
)

if __name__ == "__main__":
    main(CLAIM)
