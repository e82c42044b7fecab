"""WiSE-FT: between parent and fine-tuned weights more is kept elsewhere than at the fine-tuned ones, at about the same gain."""

from arms import Comparison, main
from weights import both, some, words

if __name__ == "__main__":
    ours = ("share by the labels", both("wise-ft"))
    main(
        Comparison("wise-ft", some(), ("full fine-tuning", both("full-ft")), ours, metrics=("kept", "top-1")),
        Comparison("wise-ft", some(), ("words", words), ours, metrics=("top-1", "kept")),
        Comparison(
            "wise-ft", some(), ("share by the labels", both("wise-ft")), ("half", both("wise-ft", share=0.5)), metrics=("kept", "top-1")
        ),
    )
