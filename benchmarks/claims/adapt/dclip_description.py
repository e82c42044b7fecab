"""Classification by description: keywords with the name and without it, against bare names: coined, of unseen things, and known ones."""

import json
import tempfile
from pathlib import Path

from arms import SEEDS, Comparison, arm, main, words
from word_worlds import jargon, things, unseen

ID = "dclip-description"
NOTE = "descriptors are keywords of the corpus, by rule; nothing is drawn: the interval is over concepts"
COINED = "descriptors are keywords of the corpus, by rule; the names are coined anew for each draw"
NAMED, ALONE = "{name}, which has {descriptor}", "{descriptor}"

if __name__ == "__main__":
    bare = ("bare names", words)
    strange, told = jargon("food-drink", SEEDS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "told.json"
        path.write_text(json.dumps(told), encoding="utf-8")
        with_name, alone = (("descriptions with names", NAMED), ("descriptions alone", ALONE))
        main(
            *(
                Comparison(ID, strange, bare, (name, arm(ID, form=form, descriptions=str(path))), shots=0, note=COINED)
                for name, form in (with_name, alone)
            ),
            *(
                Comparison(ID, world, bare, (name, arm(ID, form=form)), shots=0, seeds=(0,), note=NOTE)
                for world, (name, form) in ((unseen(), with_name), (unseen(), alone), (things("food-drink"), with_name))
            ),
        )
