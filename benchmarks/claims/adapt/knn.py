"""Nearest neighbours with the words: with 16 pictures a class they beat words alone; beside class means."""

from arms import Comparison, arm, main, words
from worlds import kinds

if __name__ == "__main__":
    world = kinds()
    main(
        *(Comparison("knn", world, ("words", words), ("neighbours", arm("knn")), shots=shots) for shots in (16, 1, 4)),
        Comparison("knn", world, ("nearest class mean", arm("nearest-mean")), ("neighbours", arm("knn"))),
        Comparison("knn", world, ("neighbours without words", arm("knn", words=0.0)), ("neighbours", arm("knn"))),
    )
