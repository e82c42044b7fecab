"""LoRA: with 16 pictures a class it beats words alone; what is kept elsewhere beside full fine-tuning with the same steps."""

from arms import Comparison, main
from weights import both, some, words

if __name__ == "__main__":
    ours = ("LoRA", both("lora"))
    main(
        Comparison("lora", some(), ("words", words), ours, metrics=("top-1", "kept")),
        Comparison("lora", some(), ("words", words), ours, metrics=("top-1",), shots=4),
        Comparison("lora", some(), ("words", words), ours, metrics=("top-1",), shots=1),
        Comparison("lora", some(), ("full fine-tuning", both("full-ft")), ours, metrics=("kept", "top-1")),
    )
