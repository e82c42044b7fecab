"""Low-density separation: the same machine with and without the pool, and beside label propagation and a linear probe."""

from arms import Comparison, arm, main
from worlds import kinds

if __name__ == "__main__":
    world = kinds()
    gap = ("with the pool", arm("deep-lds"))
    main(
        *(
            Comparison("deep-lds", world, ("labels alone", arm("deep-lds", cost=0.0)), gap, shots=shots, free=world.labelled)
            for shots in (4, 1, 16)
        ),
        Comparison("deep-lds", world, ("LaplacianShot's head", arm("laplacian-shot")), gap, shots=4, free=world.labelled),
        Comparison("deep-lds", world, ("linear probe", arm("linear-probe")), gap, shots=4, free=world.labelled),
    )
