"""E-SSL against SimCLR at equal steps: does telling the turn of a further view make better features?

Paper: ImageNet linear probe 72.5 % with the rotation to predict (abstract).
"""

from __future__ import annotations

from common import main
from pictures import against, alone

CLAIM = against(
    "e-ssl",
    alone("simclr"),
    alone("e-ssl"),
    "SimCLR",
    "Equal steps; four turned views more a picture, so about three times the cost.",
)

if __name__ == "__main__":
    main(CLAIM)
