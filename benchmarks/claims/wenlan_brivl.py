"""BriVL's momentum towers and queues against in-batch negatives, at batch 32: retrieval.

Paper: better than CLIP with limited GPU memory, by many negatives; no single figure.
"""

from __future__ import annotations

from common import Claim, main
from measures import retrieval, together, zero_shot
from starts import WARM, warm

from diptych.engine.run import ObjectiveConfig

CLAIM = Claim(
    id="wenlan-brivl",
    baseline=warm(batch=32, steps=1200, objective=ObjectiveConfig(name="clip")),
    method=warm(batch=32, steps=1200, objective=ObjectiveConfig(name="wenlan-brivl")),
    measure=together(retrieval, zero_shot),
    primary="image to text recall@10",
    start=WARM,
    note="Queues of 1,024 keys, momentum 0.99, the settings of the paper's code; keys of an equal concept are further positives.",
)

if __name__ == "__main__":
    main(CLAIM)
