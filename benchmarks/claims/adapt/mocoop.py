"""MoCoOp: contexts chosen for each picture beat one context on base and on new classes."""

from arms import Comparison, main
from prompted import base_and_new, few

if __name__ == "__main__":
    base, new = few().halves()
    both = ("new top-1", "base top-1")
    method = ("MoCoOp", base_and_new("mocoop", new))
    main(
        Comparison("mocoop", base, ("CoOp", base_and_new("coop", new)), method, metrics=both),
        Comparison("mocoop", base, ("words", base_and_new("", new)), method, metrics=both),
    )
