"""Layer norms alone: trained on two kinds of damage, they tell a third kind better than a linear probe on frozen rows."""

from arms import Comparison, main
from weights import damage, told_apart

if __name__ == "__main__":
    metric = ("pairs told apart",)
    main(
        *(
            Comparison(
                "clip-deepfake-ln",
                damage(kind),
                ("linear probe", told_apart("linear-probe")),
                ("layer norms", told_apart("clip-deepfake-ln", crops=False)),
                metrics=metric,
                shots=64,
                note=f"damage '{kind}' was never labelled; pictures whole, since damage is local",
            )
            for kind in ("turned", "hole", "blot")
        )
    )
