"""Full fine-tuning: with 16 pictures a class it beats words alone, at the price of what was known elsewhere."""

from arms import Comparison, main
from weights import both, some, words

if __name__ == "__main__":
    main(Comparison("full-ft", some(), ("words", words), ("full fine-tuning", both("full-ft")), metrics=("top-1", "kept")))
