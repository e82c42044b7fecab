"""RLCF: a model of photographs names drawings better where a model of drawings judges it than where it trusts itself."""

from arms import Comparison, main
from streams import damaged, rule, words

MOST, FIXED = 12, ("a drawing of {}",)
FEW = {"views": 8, "share": 0.25}

if __name__ == "__main__":
    world = damaged("pocket", classes=10)
    ours = ("RLCF", rule("rlcf", MOST, reward="mini", **FEW))
    note = "pocket judged by mini; 8 views, of which 2 are chosen; the paper takes 64 and 6"
    main(
        Comparison("rlcf", world, ("the fixed prompt", words(MOST, FIXED)), ours, shots=0, note=note),
        Comparison("rlcf", world, ("TPT, as many steps", rule("tpt", MOST, steps=3, lr=7e-3, **FEW)), ours, shots=0, note=note),
    )
