"""Barlow Twins: features of the tower against those before training (rank beside them: no collapse); a wide output against a narrow one.

Paper: the probe keeps rising with the output's width, up to 16,384 (figure 4).
"""

from __future__ import annotations

from common import main
from pictures import against, against_untrained, alone

METHOD = alone("barlow-twins")

LEARNS = against_untrained("barlow-twins", METHOD)
WIDE = against(
    "barlow-twins",
    alone("barlow-twins", {"width": 32}),
    METHOD,
    "width 32",
    "Baseline: an output of 32 coordinates; the method has 512.",
)

if __name__ == "__main__":
    main(LEARNS, WIDE)
