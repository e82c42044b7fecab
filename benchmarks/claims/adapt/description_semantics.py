"""Descriptions without names, chosen in the neighbourhood, against own and shuffled ones; and shuffled ones with names against one name."""

from arms import Comparison, arm, main, words
from word_worlds import things

ID = "description-semantics"
NAMED = "{name}, {description}"

if __name__ == "__main__":
    world = things("objects")
    chosen = ("chosen", arm(ID))
    main(
        Comparison(ID, world, ("shuffled", arm(ID, take="shuffled")), chosen, shots=4),
        Comparison(ID, world, ("own", arm(ID, take="own")), chosen, shots=4),
        Comparison(ID, world, ("words", words), chosen, shots=4),
        Comparison(ID, world, ("words", words), ("shuffled, with names", arm(ID, take="shuffled", form=NAMED, weight=0.0)), shots=4),
        Comparison(
            ID,
            world,
            ("shuffled, with names", arm(ID, take="shuffled", form=NAMED, weight=0.0)),
            ("own, with names", arm(ID, take="own", form=NAMED, weight=0.0)),
            shots=4,
        ),
    )
