"""Prompt ensembling: eight prompts that fit drawings against one of them, on concepts never trained on, on kinds and on concepts."""

from arms import Comparison, arm, main
from word_worlds import things, unseen
from worlds import kinds

ONE = "a drawing of a {}"

if __name__ == "__main__":
    one, eight = (
        (f"one prompt, {ONE!r}", arm("prompt-ensemble", templates=(ONE,))),
        ("eight prompts", arm("prompt-ensemble", kind="drawings")),
    )
    note = "nothing is drawn: the interval is over concepts"
    main(
        *(
            Comparison("prompt-ensemble", world, one, eight, shots=0, seeds=(0,), note=note)
            for world in (unseen(), kinds(), things("food-drink"))
        )
    )
