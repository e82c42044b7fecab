"""W-MSE: features of the tower against those before training; whitening against next to none; four positives against two.

Paper: CIFAR-10 linear probe 91.55 % with two positives, 91.99 % with four (table 1).
"""

from __future__ import annotations

from common import main
from pictures import STEPS, against, against_untrained, alone

METHOD = alone("w-mse", steps=STEPS // 2)

LEARNS = against_untrained("w-mse", METHOD, "Half the steps of the other objectives on views, since there are four views.")
WHITE = against(
    "w-mse",
    alone("w-mse", {"ridge": 0.999}, STEPS // 2),
    METHOD,
    "unwhitened",
    "Baseline: a covariance of 0.999 identity and 0.001 data, which centres the rows and hardly whitens them.",
)
FOUR = against(
    "w-mse",
    alone("w-mse", {"positives": 2}, STEPS // 2),
    METHOD,
    "two positives",
    "Baseline: two of the four views, at equal steps and so at half the cost.",
)

if __name__ == "__main__":
    main(LEARNS, WHITE, FOUR)
