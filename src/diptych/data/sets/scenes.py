"""Sets of scenes put together from the embedded drawings; each picture is made when it is read. Captions and pictures find each other."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from diptych.data.sets.base import EvalSet

if TYPE_CHECKING:
    from diptych.data.pictograms.scenes import Scenes

VERSION = "1"
RECALL_AT = 10
ABOUT = {
    "train": "scenes of the drawings that are trained on",
    "validation": "scenes of the validation drawings, to choose checkpoints by",
    "style": "scenes in styles never trained on: captions with places, sizes and colours find their picture",
    "unseen": "scenes of concepts never trained on, in styles never trained on",
}


@functools.cache
def _scenes(split: str) -> Scenes:
    from diptych.data.pictograms.scenes import Scenes

    return Scenes(split)


def _set(split: str) -> EvalSet:
    measured = split != "train"
    return EvalSet(
        name=f"scenes/{split}",
        version=VERSION,
        about=ABOUT[split],
        read_samples=lambda: _scenes(split),
        read_classes=tuple,
        tasks=("retrieval",) if measured else (),
        metric=f"text_to_image_r@{RECALL_AT}" if measured else "",
        read_chance=(lambda: RECALL_AT / len(_scenes(split))) if measured else None,
        sealed=split in ("style", "unseen"),
    )


SETS = tuple(_set(split) for split in ABOUT)
