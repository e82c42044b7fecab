"""BiomedCoOp: held at the mean of several descriptions, the context serves new classes better than CoOp's at similar base accuracy."""

from arms import Comparison, main
from prompted import base_and_new, few

if __name__ == "__main__":
    base, new = few().halves()
    both = ("new top-1", "base top-1")
    method = ("BiomedCoOp", base_and_new("biomedcoop", new))
    main(
        Comparison("biomedcoop", base, ("CoOp", base_and_new("coop", new)), method, metrics=both),
        Comparison("biomedcoop", base, ("words", base_and_new("", new)), method, metrics=both),
    )
