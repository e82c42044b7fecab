"""TCA: on a stream of damaged drawings, condensing tokens with anchors beats words and plain merging of as many tokens."""

from arms import Comparison, main
from streams import damaged, rule, words

from diptych.core.registry import find

MOST, RATIO = 300, 0.5

if __name__ == "__main__":
    world = damaged()
    ours = ("TCA", rule("tca", MOST, ratio=RATIO, centres=2))
    note = "mini has no class token: the mean-token form; 8 of 16 tokens are left"
    main(
        Comparison("tca", world, ("ToMe, as many tokens", words(MOST, tokens=find("tome", "tokens").function(ratio=RATIO))), ours, shots=0,
                   note=note),
        Comparison("tca", world, ("words, all tokens", words(MOST)), ours, shots=0, note=note),
        Comparison("tca", world, ("condensed without memory", rule("tca", MOST, ratio=RATIO, centres=2, weight=0.0, anchors=False)), ours,
                   shots=0, note=note),
    )  # fmt: skip
