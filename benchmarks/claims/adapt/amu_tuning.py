"""AMU-Tuning: a second encoder's bias, fused by how unsure the words are, against words alone and against a bias of fixed weight."""

from arms import Comparison, arm, main, words
from worlds import kinds

if __name__ == "__main__":
    world, ours = kinds(), ("fused by doubt", arm("amu-tuning", aux="pocket"))
    fixed = ("fixed weight", arm("amu-tuning", aux="pocket", doubt="none"))
    main(
        Comparison("amu-tuning", world, fixed, ours, shots=4, note="pocket is the auxiliary encoder; it was trained on photographs"),
        Comparison("amu-tuning", world, ("words", words), ours, shots=4),
    )
