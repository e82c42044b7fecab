"""Nearest class mean: with 16 pictures a class it beats words alone; with one it does not, since a single picture is a poor mean."""

from arms import Comparison, arm, main, words
from worlds import kinds

if __name__ == "__main__":
    world, ours = kinds(), ("class means", arm("nearest-mean"))
    main(*(Comparison("nearest-mean", world, ("words", words), ours, shots=shots) for shots in (16, 4, 1)))
