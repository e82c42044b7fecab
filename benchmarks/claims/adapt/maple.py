"""MaPLe: fitted on half of the kinds, coupled prompts in both towers beat prompts of the text alone on base and new kinds together."""

from arms import Comparison, main
from base_new import METRICS, pair, prompts, words

GIVEN = {"lr": 0.02, "words": "a drawing of a"}
NOTE = "learning rate 0.02 in both arms, as good as 0.0035 on held-out labelled pictures of another draw; the paper has harmonic means"
ORDER = (METRICS[2], METRICS[1], METRICS[0])

if __name__ == "__main__":
    ours = ("prompts in both towers", prompts("maple", **GIVEN))
    main(
        Comparison("maple", pair()[0], ("of the text alone", prompts("maple", vision=False, **GIVEN)), ours, metrics=ORDER, note=NOTE),
        Comparison("maple", pair()[0], ("words", words), ours, metrics=ORDER, note=NOTE),
    )
