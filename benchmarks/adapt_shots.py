"""Every adaptation method against the number of labelled pictures: gain over the words alone, what is kept elsewhere, numbers, seconds.

    OMP_NUM_THREADS=1 python benchmarks/adapt_shots.py                                  # kinds of drawings, mini
    DIPTYCH_PHOTOS=photos/ OMP_NUM_THREADS=1 python benchmarks/adapt_shots.py --photos pocket
    python benchmarks/adapt_shots.py --only gda-clip coop --shots 1 4 16 --draws 5

Writes ``docs/adapt.jsonl`` (one line a method, world and number of shots, in place of the same one before) and the plot and tables that
are made of it (``scripts/adapt_page.py``). Interval: 95 %, draws of the shots and units of the test resampled. Options are chosen by
cross-validation inside the shots. Methods that look at no labels are asked at 0 shots; pictures without labels are the training split
without its labels. Kept: of the parent's hits by words on concepts that nothing was trained on (``pictograms/unseen``), the share that is
still hit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).resolve().parent / "claims" / "adapt"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))

from arms import hits, kept, say
from common import difference
from worlds import World, kinds, photos

from diptych.adapt.parts.work import Tuned
from diptych.core import registry
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.engine.fewshot import fitted, methods
from diptych.evaluate.material import Material

RECORDS = Path(__file__).resolve().parents[1] / "docs" / "adapt.jsonl"
POOL = 2000
OPTIONS: dict[str, dict[str, Any]] = {"amu-tuning": {"aux": "pocket"}, "rlcf": {"reward": "pocket"}}


def measured(entry: registry.Entry, world: World, shots: int, draws: int) -> dict[str, Any]:
    """One line."""
    labels = "labels" in entry.card.needs
    free = pool(world) if "unlabelled" in entry.card.needs else None
    pairs, held, seconds, numbers, parent = [], [], [], 0, None
    for seed in range(draws if labels or free else 1):
        case = world.case(shots, seed, free)
        began = time.process_time()
        made = fitted(entry.id, case.work, OPTIONS.get(entry.id, {}))[0]
        seconds.append(time.process_time() - began)
        pairs.append((hits(case, case.work.shots.zero_shot()), hits(case, made)))
        numbers = made.numbers if isinstance(made, Tuned) else made.numbers()
        if isinstance(made, Tuned):
            parent = parent or kept(case.work.model)
            child = kept(made.model.with_head(None))
            held.append(float((parent.value_N * child.value_N).sum() / parent.value_N.sum()))
    gain, interval, each = difference(pairs)
    return {
        "method": entry.id,
        "world": world.name,
        "about": world.about,
        "shots": shots,
        "draws": len(pairs),
        "top1": round(statistics.mean(float(ours.value_N.mean()) for _, ours in pairs), 4),
        "words": round(float(pairs[0][0].value_N.mean()), 4),
        "gain": round(gain, 4),
        "interval": [round(edge, 4) for edge in interval],
        "each": [round(value, 4) for value in each],
        "retention": round(statistics.mean(held), 4) if held else 1.0,
        "trainable": numbers,
        "seconds": round(statistics.median(seconds), 2),
    }


def pool(world: World) -> Material:
    """Pictures of the training split, at most :data:`POOL`, drawn once; their labels are not looked at."""
    order = torch.randperm(len(world.labelled.source), generator=generator(0, "pool"))[:POOL].sort().values
    return world.labelled.take(order)


def write(row: dict[str, Any]) -> None:
    """In place of the line of the same method, world and shots; sorted."""
    old = [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()] if RECORDS.exists() else []
    key = ("method", "world", "shots")
    rows = [other for other in old if [other[name] for name in key] != [row[name] for name in key]] + [row]
    rows.sort(key=lambda one: [one[name] for name in key])
    RECORDS.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", metavar="MODEL", help="on the photographs of $DIPTYCH_PHOTOS with this model")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--only", nargs="+", help="these methods")
    parser.add_argument("--most", type=float, default=240.0, help="seconds: a method that took longer at fewer shots is left out of more")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    world = photos(asked.photos) if asked.photos else kinds()
    slow: set[str] = set()
    for shots in asked.shots:
        for entry in methods():
            if (asked.only and entry.id not in asked.only) or entry.id in slow:
                continue
            if "labels" not in entry.card.needs and shots != asked.shots[0]:
                continue
            began = time.monotonic()
            try:
                row = measured(entry, world, shots if "labels" in entry.card.needs else 0, asked.draws)
            except UsageError as error:
                say(f"{entry.id}: left out: {error}")
                slow.add(entry.id)
                continue
            write(row)
            say(f"{entry.id} {row['shots']} shots: {row['top1']:.3f} gain {row['gain']:+.3f} {row['interval']} kept {row['retention']:.3f}")
            if time.monotonic() - began > asked.most:
                slow.add(entry.id)
    import adapt_page

    adapt_page.write()


if __name__ == "__main__":
    main()
