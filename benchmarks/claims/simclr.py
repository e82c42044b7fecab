"""SimCLR: features of the tower against those before training; colour changes and the head against their absence.

Paper: ImageNet linear probe 76.5 % (table 6); crops need colour changes beside them (figure 5); without the head the features are worse by
more than 10 points (section 4.2).
"""

from __future__ import annotations

from common import main
from pictures import against, against_untrained, alone

from diptych.objectives.parts.views import SIMCLR_VIEW

METHOD = alone("simclr")
PLAIN = SIMCLR_VIEW.model_copy(update={"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "grayscale": 0.0})

LEARNS = against_untrained("simclr", METHOD)
COLOUR = against(
    "simclr",
    alone("simclr", views=(PLAIN, PLAIN)),
    METHOD,
    "no colour changes",
    "Baseline: views that are cropped, flipped and laid on grounds, and keep their colours.",
)
HEAD = against("simclr", alone("simclr", {"layers": 0}), METHOD, "no head", "Baseline: the contrast on the tower's own rows.")

if __name__ == "__main__":
    main(LEARNS, COLOUR, HEAD)
