"""SLIP against CLIP at equal steps: zero-shot accuracy on unseen styles, and a linear probe on the tower's pooled rows.

Paper: ImageNet zero-shot +5.2 points on CLIP, linear probe +8.1 points on self-supervision (abstract).
"""

from __future__ import annotations

from typing import Any

from common import Claim, main
from measures import together, zero_shot
from pictures import frozen_rows
from starts import FROZEN, SEEING, frozen, seeing

from diptych.engine.run import ObjectiveConfig

PRESET, MEASURE = "study-vit", together(zero_shot, frozen_rows)


def claims() -> list[Claim]:
    """From a tower that sees, and from nothing; the start is trained here where it is not there yet."""
    clip, slip = ObjectiveConfig(name="clip"), ObjectiveConfig(name="slip")
    common: dict[str, Any] = {"id": "slip", "measure": MEASURE, "primary": "zero-shot top-1", "names": ("CLIP", "method")}
    note = "Equal steps; two views more a picture, so about three times the cost. A ViT, since a batch norm would mix pictures and views."
    return [
        Claim(baseline=seeing(PRESET, objective=clip), method=seeing(PRESET, objective=slip), start=SEEING, note=note, **common),
        Claim(
            baseline=frozen(PRESET, 300, 128, objective=clip),
            method=frozen(PRESET, 300, 128, objective=slip),
            start=FROZEN,
            note=note,
            **common,
        ),
    ]


if __name__ == "__main__":
    main(*claims())
