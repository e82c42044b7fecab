"""Tip-Adapter: with 16 pictures a class the cache beats words alone without training, and tuned keys beat it again."""

from arms import Comparison, arm, main, words
from worlds import kinds

if __name__ == "__main__":
    world = kinds()
    main(
        *(Comparison("tip-adapter", world, ("words", words), ("the cache", arm("tip-adapter")), shots=shots) for shots in (16, 4, 1)),
        Comparison("tip-adapter", world, ("the cache", arm("tip-adapter")), ("tuned keys", arm("tip-adapter", epochs=20))),
    )
