"""CLIP-Adapter: with 16 pictures a class a bottleneck on the row beats words alone."""

from arms import Comparison, arm, main, words
from worlds import kinds

if __name__ == "__main__":
    world, ours = kinds(), ("bottleneck", arm("clip-adapter"))
    main(*(Comparison("clip-adapter", world, ("words", words), ours, shots=shots) for shots in (16, 4, 1)))
