"""CLIP-SVD: with 16 pictures a class singular values beat words alone, and keep more elsewhere than full fine-tuning."""

from arms import Comparison, main
from weights import both, some, words

if __name__ == "__main__":
    ours = ("singular values", both("clip-svd"))
    main(
        Comparison("clip-svd", some(), ("full fine-tuning", both("full-ft")), ours, metrics=("kept", "top-1")),
        Comparison("clip-svd", some(), ("words", words), ours, metrics=("top-1", "kept")),
    )
