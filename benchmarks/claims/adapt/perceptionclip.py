"""PerceptionCLIP: the ground inferred first, against plain names, on the ground that a thing was seldom seen on, and on all."""

from collections.abc import Mapping
from typing import Any

import torch
from arms import Arm, Comparison, hits, main
from common import Values
from word_worlds import grounds
from worlds import Case

from diptych.engine.fewshot import fitted

METRICS = ("top-1 on the other ground", "top-1")


def both(case: Case, made: Any) -> Mapping[str, Values]:
    """Hits on the ground that the thing does not go with, and on both."""
    every = hits(case, made)
    other_N = torch.tensor([sample.meta["group"] == "counter" for sample in case.world.tested.source])
    return {METRICS[0]: Values(every.value_N[other_N], every.unit_N[other_N]), METRICS[1]: every}


def inferred(how: str) -> Arm:
    """The rule with the two grounds that there are."""
    options = {"contexts": (("green", "blue"),), "infer": how, "tau": 1.0}
    return lambda case: both(case, fitted("perceptionclip", case.work, options)[0])


if __name__ == "__main__":
    plain = ("plain names", lambda case: both(case, case.work.shots.zero_shot()))
    main(
        *(
            Comparison("perceptionclip", grounds(), plain, (f"ground inferred {how}", inferred(how)), METRICS, shots=0)
            for how in ("with classes", "alone")
        )
    )
