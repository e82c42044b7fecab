"""CapS-Adapter: a cache of pictures and captions against a cache of pictures alone and against words; captions name the drawn concept."""

from arms import Comparison, arm, main, words
from worlds import kinds

if __name__ == "__main__":
    world = kinds()
    both = ("pictures and captions", arm("caps-adapter", beta=5.5))
    pictures = ("pictures alone", arm("caps-adapter", beta=5.5, share=0.0))
    main(
        Comparison("caps-adapter", world, pictures, both, shots=4),
        *(Comparison("caps-adapter", world, ("words", words), both, shots=shots) for shots in (1, 4, 16)),
        Comparison("caps-adapter", world, pictures, both),
    )
