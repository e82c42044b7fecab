"""What naming one picture costs with a rule, beside the plain model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from torch import Tensor

from diptych.core.types import Preprocess, Sample
from diptych.data.decode import BrokenImage
from diptych.evaluate.material import Material
from diptych.towers.encode import pixels


def cost(changed: Any, tested: Material, most: int = 64) -> dict[str, float] | None:
    """Milliseconds a picture, from prepared pixels to an answer, by the model's rule and without it; None where it has none.

    Measured once on at most ``most`` readable test pictures, given one after the other, after one that is not counted.
    """
    if changed.rule is None:
        return None
    given = list(islice(readable(tested.source, changed.config.preprocess), most + 1))
    found = {}
    for name, model in (("rule", changed), ("plain", changed.with_rule(None))):
        classifier = model.classifier(tested.classes)
        classifier.predict(given[0][None])
        start = time.perf_counter()
        for picture_CHW in given[1:]:
            classifier.predict(picture_CHW[None])
        found[name] = 1000 * (time.perf_counter() - start) / max(1, len(given) - 1)
    return found


def readable(source: Sequence[Sample], preprocess: Preprocess) -> Iterator[Tensor]:
    """Prepared pictures in their order, without those that cannot be decoded."""
    for sample in source:
        try:
            yield pixels(sample, preprocess)
        except BrokenImage:
            continue
