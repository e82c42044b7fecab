"""CoCoOp: a context that depends on the picture serves new classes better than CoOp's."""

from arms import Comparison, main
from prompted import base_and_new, few

if __name__ == "__main__":
    base, new = few().halves()
    both = ("new top-1", "base top-1")
    method = ("CoCoOp", base_and_new("cocoop", new))
    main(
        Comparison("cocoop", base, ("CoOp", base_and_new("coop", new)), method, metrics=both),
        Comparison("cocoop", base, ("words", base_and_new("", new)), method, metrics=both),
    )
