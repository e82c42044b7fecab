"""Classification by description: keywords with the name and without it, against bare names: never learned, and known ones."""

import json
import tempfile
from pathlib import Path

from arms import Comparison, arm, main, words
from word_worlds import jargon, things, unseen

ID = "dclip-description"
NOTE = "descriptors are keywords of the corpus, by rule; nothing is drawn: the interval is over concepts"
NAMED, ALONE = "{name}, which has {descriptor}", "{descriptor}"

if __name__ == "__main__":
    bare = ("bare names", words)
    strange, told = jargon("food-drink")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "told.json"
        path.write_text(json.dumps(told), encoding="utf-8")
        told_arms = [
            (strange, "descriptions with names", arm(ID, form=NAMED, descriptions=str(path))),
            (strange, "descriptions alone", arm(ID, form=ALONE, descriptions=str(path))),
            (unseen(), "descriptions with names", arm(ID, form=NAMED)),
            (unseen(), "descriptions alone", arm(ID, form=ALONE)),
            (things("food-drink"), "descriptions with names", arm(ID, form=NAMED)),
        ]
        main(*(Comparison(ID, world, bare, (name, run), shots=0, seeds=(0,), note=NOTE) for world, name, run in told_arms))
