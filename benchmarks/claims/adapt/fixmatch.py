"""FixMatch on rows: the same head with and without the unlabelled pictures, and beside a linear probe."""

from arms import Comparison, arm, main, words
from worlds import kinds

if __name__ == "__main__":
    world = kinds()
    pool, labels = (("with the pool", arm("fixmatch", threshold=0.7)), ("labels alone", arm("fixmatch", threshold=0.7, weight=0.0)))
    main(
        *(Comparison("fixmatch", world, labels, pool, shots=shots, free=world.labelled) for shots in (4, 1, 16)),
        Comparison("fixmatch", world, ("linear probe", arm("linear-probe")), pool, shots=4, free=world.labelled),
        Comparison("fixmatch", world, ("words", words), pool, shots=4, free=world.labelled),
    )
