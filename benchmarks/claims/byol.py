"""BYOL: features of the tower against those before training; the moving average against a copy that never moves.

Paper: ImageNet linear probe 74.3 % (table 1); a target that never moves gives far worse features than one that follows (table 5a).
"""

from __future__ import annotations

from common import main
from pictures import against, against_untrained, alone

METHOD = alone("byol")

LEARNS = against_untrained("byol", METHOD)
MOVING = against(
    "byol", alone("byol", {"momentum": 1.0}), METHOD, "fixed copy", "Baseline: the copy stays as it was before the first step."
)

if __name__ == "__main__":
    main(LEARNS, MOVING)
