"""GDA for CLIP: with 16 pictures a class it beats words alone and nearest class mean, and it gains more with more pictures."""

from arms import Comparison, arm, main, words
from worlds import kinds

if __name__ == "__main__":
    world = kinds()
    main(
        Comparison("gda-clip", world, ("nearest class mean", arm("nearest-mean")), ("GDA", arm("gda-clip"))),
        *(Comparison("gda-clip", world, ("words", words), ("GDA", arm("gda-clip")), shots=shots) for shots in (1, 4, 16)),
    )
