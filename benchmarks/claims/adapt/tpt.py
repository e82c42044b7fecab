"""TPT: on damaged drawings a context tuned for each picture beats the same words left as they are."""

from arms import Comparison, main
from streams import damaged, rule, words

MOST, FIXED = 60, ("a drawing of {}",)

if __name__ == "__main__":
    world = damaged(classes=40)
    ours = ("TPT", rule("tpt", MOST, views=32))
    main(
        Comparison("tpt", world, ("the fixed prompt", words(MOST, FIXED)), ours, shots=0, note="32 views; the paper takes 64"),
        Comparison("tpt", world, ("three prompts together", words(MOST)), ours, shots=0, note="32 views; the paper takes 64"),
    )
