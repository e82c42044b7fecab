"""PromptSRC: fitted on half of the kinds, prompts held near the parent name new kinds better than CoOp's and than the same ones unheld."""

from arms import Comparison, main
from base_new import METRICS, pair, prompts, words

GIVEN = {"lr": 0.01, "batch": 16, "words": "a drawing of a"}
NOTE = "batches four times the paper's at four times its rate, its 20 epochs; CoOp at its defaults, 16 tokens and 50 epochs"

if __name__ == "__main__":
    ours = ("prompts held near the parent", prompts("promptsrc", **GIVEN))
    unheld = ("the same prompts unheld", prompts("promptsrc", agree=0.0, ensemble=False, **GIVEN))
    main(
        *(Comparison("promptsrc", pair()[0], base, ours, metrics=METRICS, note=NOTE) for base in (("CoOp", prompts("coop")), unheld)),
        Comparison("promptsrc", pair()[0], ("words", words), ours, metrics=METRICS, note=NOTE),
    )
