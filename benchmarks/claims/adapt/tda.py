"""TDA: on a stream of damaged drawings its caches of sure and unsure pictures beat words alone, without a gradient."""

from arms import Comparison, main
from streams import damaged, rule, words

MOST = 300

if __name__ == "__main__":
    world = damaged()
    both = ("TDA", rule("tda", MOST))
    main(
        Comparison("tda", world, ("words", words(MOST)), both, shots=0),
        Comparison("tda", world, ("only the cache of sure pictures", rule("tda", MOST, negative_capacity=0)), both, shots=0),
    )
