"""LaplacianShot: test pictures named together with their neighbours against class means, and the head it leaves."""

from arms import Arm, Case, Comparison, Values, arm, main
from worlds import kinds

from diptych.adapt.training_free.laplacian_shot import named


def together(pull: float) -> Arm:
    """Top-1 on the pool, which is the test."""

    def run(case: Case) -> dict[str, Values]:
        return {"top-1": Values((named(case.work.shots, pull=pull).argmax(1) == case.label_N).double(), case.unit_N)}

    return run


if __name__ == "__main__":
    world = kinds()
    alone, near = ("prototypes alone", together(0.0)), ("with neighbours", together(1.0))
    main(
        *(Comparison("laplacian-shot", world, alone, near, shots=shots, free=world.tested) for shots in (1, 4, 16)),
        Comparison(
            "laplacian-shot", world, ("class means", arm("nearest-mean")), ("head", arm("laplacian-shot")), shots=4, free=world.labelled
        ),
    )
