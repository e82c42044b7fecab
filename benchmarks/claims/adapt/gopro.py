"""GOPro: fitted on two styles of drawing, its three losses name drawings of a third style better than cross-entropy alone does."""

from dataclasses import replace

from arms import Comparison, arm, main, words
from worlds import World, kinds

from diptych.evaluate.material import hash_of

UNSEEN = "twemoji"
GIVEN = {"lr": 0.02, "batch": 8, "epochs": 5}
NOTE = "batches of 8 at learning rate 0.02, 5 epochs, both arms"


def across() -> World:
    """Every sixth kind; shots in two styles, the test in the third."""
    world = kinds(styles=(UNSEEN,))
    source = [sample for sample in world.labelled.source if sample.meta["style"] != UNSEEN]
    print_ = hash_of([world.labelled.fingerprint, UNSEEN])
    world = replace(world, labelled=replace(world.labelled, source=source, fingerprint=print_))
    world = world.only(range(0, len(world.labelled.classes), 6))
    where = f"{len(world.labelled.classes)} kinds of drawings, shots in the styles emojione and emojione-monotone"
    return replace(world, about=f"mini on {where}, {len(world.tested.source)} test drawings of other concepts in {UNSEEN}")


if __name__ == "__main__":
    world, ours = across(), ("three losses", arm("gopro", **GIVEN))
    plain = ("cross-entropy alone", arm("gopro", consistency=0.0, contrast=0.0, **GIVEN))
    main(*(Comparison("gopro", world, base, ours, note=NOTE) for base in (plain, ("CoOp", arm("coop")), ("words", words))))
