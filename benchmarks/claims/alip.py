"""ALIP's gates against the same two captions without gates, where 30 % of the raw captions belong to other pictures.

Paper: state of the art in zero-shot retrieval after pretraining on YFCC15M with OFA's captions as the synthetic path: Flickr30K recall@1,
both ways, 70.5 / 48.9 against CLIP's 34.9 / 23.4 (ViT-B/32; authors' README).
"""

from __future__ import annotations

from common import Claim, main
from measures import retrieval, together, zero_shot
from starts import AUGMENT, WARM
from told import Shuffled, arm

from diptych.engine.run import DataConfig, ObjectiveConfig

DATA = DataConfig(path="study/train", batch=128, augment=AUGMENT, workers=0, caption="first")
OPEN = {"sample_gamma": 0.0, "pair_gamma": 0.0}

CLAIM = Claim(
    id="alip",
    baseline=arm(DATA, steps=120, objective=ObjectiveConfig(name="alip", options=OPEN)),
    method=arm(DATA, steps=120, objective=ObjectiveConfig(name="alip")),
    measure=together(retrieval, zero_shot),
    primary="text to image recall@10",
    start=WARM,
    dataset=lambda name: Shuffled("study/train", 0.3),
    names=("open gates", "gates"),
    note="Each picture has one raw caption, wrong for 30 % of them, and one clean caption of its own as the synthetic one; concepts are "
    "not told. The baseline is the same two-caption loss with both gates open.",
)

if __name__ == "__main__":
    main(CLAIM)
