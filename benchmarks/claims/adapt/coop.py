"""CoOp: a learned context beats hand-made prompts at 1, 4 and 16 pictures a class, and gains more with more pictures."""

from arms import Comparison, arm, main, words
from prompted import few, fewer

if __name__ == "__main__":
    world = few()
    main(
        Comparison("coop", world, ("words", words), ("CoOp", arm("coop"))),
        *(Comparison("coop", world, ("words", words), ("CoOp", arm("coop")), shots=shots) for shots in (1, 4)),
        Comparison("coop", world, ("CoOp, 1 picture a class", fewer("coop", 1)), ("CoOp", arm("coop"))),
    )
