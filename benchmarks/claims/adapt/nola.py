"""NoLA: without a label, prompts tuned by a head on other features name more than words do, and than prompts tuned by the words' labels."""

from dataclasses import replace

from arms import Comparison, arm, main, words
from worlds import kinds

GIVEN = {"context": 8, "epochs": 10}
NOTE = "pocket's rows in place of DINO's; 8 prompts, 10 epochs, keywords of the corpus as descriptions"

if __name__ == "__main__":
    world = kinds()
    world = world.only(range(0, len(world.labelled.classes), 4))
    sizes = f"{len(world.labelled.source)} drawings without labels, {len(world.tested.source)} test drawings of other concepts"
    world = replace(world, about=f"mini on {len(world.labelled.classes)} kinds of drawings in unseen styles, {sizes}")
    ours = ("labels by a head on other features", arm("nola", aux="pocket", **GIVEN))
    main(
        *(
            Comparison("nola", world, base, ours, shots=0, free=world.labelled, note=NOTE)
            for base in (("words", words), ("labels by words", arm("nola", align=False, **GIVEN)))
        )
    )
