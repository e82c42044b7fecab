"""Few-shot zero-shot semi-supervised: every second class loses its labels; the entropy term against FlexMatch alone, and against words."""

from typing import Any

from arms import Arm, Case, Comparison, Values, hits, main, words
from worlds import kinds

from diptych.adapt.semi.semi_fszs import semi_fszs


def half(**options: Any) -> Arm:
    """Top-1 over all classes, fitted without the labels of every second one."""

    def run(case: Case) -> dict[str, Values]:
        shots = case.work.shots
        seen = shots.take((shots.label_S % 2 == 0).nonzero()[:, 0])
        return {"top-1": hits(case, semi_fszs(seen, threshold=0.7, **options))}

    return run


if __name__ == "__main__":
    world = kinds()
    minded, flex = ("with the entropy term", half()), ("FlexMatch alone", half(entropy=0.0))
    main(
        *(Comparison("semi-fszs", world, flex, minded, shots=shots, free=world.labelled) for shots in (4, 16)),
        Comparison("semi-fszs", world, ("words", words), minded, shots=4, free=world.labelled),
    )
