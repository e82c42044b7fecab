"""TDA: on a stream of drawings in unseen styles its caches of sure and unsure pictures beat words alone, without a gradient."""

import arms
from arms import Comparison, main
from streams import damaged, in_order, rule, words
from worlds import kinds

MOST = 300

if __name__ == "__main__":
    world, hurt = kinds(), damaged()
    main(
        Comparison("tda", world, ("words", arms.words), ("TDA", in_order("tda")), shots=0),
        Comparison("tda", world, ("only the sure cache", in_order("tda", negative_capacity=0)), ("TDA", in_order("tda")), shots=0),
        Comparison("tda", hurt, ("words", words(MOST)), ("TDA, damaged drawings", rule("tda", MOST)), shots=0),
    )
