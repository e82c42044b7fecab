"""VICReg: features of the tower against those before training; the variance term against its absence.

Paper: ImageNet linear probe 73.2 % (table 1); without the variance term the rows collapse (ablation).
"""

from __future__ import annotations

from common import main
from pictures import against, against_untrained, alone

METHOD = alone("vicreg")

LEARNS = against_untrained("vicreg", METHOD)
VARIANCE = against(
    "vicreg",
    alone("vicreg", {"variance_weight": 0.0}),
    METHOD,
    "no variance term",
    "Baseline: variance_weight 0, invariance and covariance as they are.",
)

if __name__ == "__main__":
    main(LEARNS, VARIANCE)
