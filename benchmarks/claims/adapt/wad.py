"""WAD: half of the pool is of classes that nobody named; weighed pseudo-labels against unweighed ones, FixMatch and no pool."""

from arms import Comparison, arm, main
from worlds import kinds

if __name__ == "__main__":
    every = kinds()
    world, _ = every.halves()
    weighed = ("weighed", arm("wad", trust=1.0))
    main(
        Comparison("wad", world, ("unweighed", arm("wad", trust=1.0, weigh=False)), weighed, shots=4, free=every.labelled),
        Comparison("wad", world, ("FixMatch", arm("fixmatch", threshold=0.7)), weighed, shots=4, free=every.labelled),
        Comparison("wad", world, ("labels alone", arm("wad", trust=0.0, rounds=1)), weighed, shots=4, free=every.labelled),
        Comparison(
            "wad", world, ("several rounds", weighed[1]), ("one round", arm("wad", trust=1.0, rounds=1)), shots=4, free=every.labelled
        ),
    )
