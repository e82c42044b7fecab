"""Transductive multi-view zero-shot: names spread over the unlabelled test pictures against the nearest words; and the head it leaves."""

from arms import Case, Comparison, Values, arm, main, words
from worlds import kinds

from diptych.adapt.training_free.transductive_mv_zsl import named


def spread(case: Case) -> dict[str, Values]:
    """Top-1 of what the propagation says of the pool, which is the test."""
    return {"top-1": Values((named(case.work.shots).argmax(1) == case.label_N).double(), case.unit_N)}


if __name__ == "__main__":
    world = kinds()
    near = ("words", words)
    main(
        Comparison("transductive-mv-zsl", world, near, ("names spread over the pool", spread), shots=0, free=world.tested),
        Comparison("transductive-mv-zsl", world, near, ("head of it", arm("transductive-mv-zsl")), shots=0, free=world.tested),
        Comparison("transductive-mv-zsl", world, near, ("head, other pool", arm("transductive-mv-zsl")), shots=0, free=world.labelled),
    )
