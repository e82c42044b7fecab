"""A linear probe: with 16 pictures a class it beats words alone; started from the words and pulled to them it beats one that is not."""

from arms import Comparison, arm, main, words
from worlds import kinds

if __name__ == "__main__":
    world, ours = kinds(), ("from the words", arm("linear-probe"))
    main(
        *(Comparison("linear-probe", world, ("words", words), ours, shots=shots) for shots in (16, 4, 1)),
        Comparison("linear-probe", world, ("from nothing", arm("linear-probe", from_words=False)), ours, shots=4),
    )
