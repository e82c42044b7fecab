"""PyramidCLIP against CLIP at equal steps: zero-shot accuracy on unseen styles, and retrieval.

Paper: +10.6 / +13.2 / +10.0 points of zero-shot ImageNet after 15 million pairs. The method sees a second view and a second text a step, so
a step costs about twice; the cost ratio says how much.
"""

from __future__ import annotations

from common import Claim, main
from measures import retrieval, together, zero_shot
from starts import AUGMENT, WARM, warm

from diptych.engine.run import ObjectiveConfig

BASE = warm(objective=ObjectiveConfig(name="clip"))
LOCAL = AUGMENT.model_copy(update={"crop_area": (0.5, 1.0), "crop_ratio": (0.75, 4 / 3), "scale": (1.0, 1.0), "shift": 0.0})
OURS = {"objective": ObjectiveConfig(name="pyramidclip"), "data": BASE.data.model_copy(update={"views": (LOCAL,)})}

CLAIM = Claim(
    id="pyramidclip",
    baseline=BASE,
    method=BASE.model_copy(update=OURS),
    measure=together(zero_shot, retrieval),
    primary="zero-shot top-1",
    start=WARM,
    note="Global view: the baseline's augmentation; local view: the same colours, 50–100 % of the area. The summary is a caption's first "
    "clause, most often the drawing's name. Regions of interest are left out (no detector).",
)

if __name__ == "__main__":
    main(CLAIM)
