"""LP-FT: with shots in some styles and the test in others, fine-tuning from a linear probe beats fine-tuning from the words."""

from arms import Comparison, arm, hits, main
from weights import STEPS, styles

from diptych.engine.fewshot import fitted


def tuned(**options):
    """Top-1 after the steps that all methods get."""

    def run(case):
        return {"top-1": hits(case, fitted("lp-ft", case.work, {"steps": STEPS, **options})[0])}

    return run


if __name__ == "__main__":
    world, ours = styles(), ("LP-FT", tuned())
    main(
        Comparison("lp-ft", world, ("without the probe", tuned(probe=False)), ours, shots=8),
        Comparison("lp-ft", world, ("linear probe", arm("linear-probe")), ours, shots=8),
    )
