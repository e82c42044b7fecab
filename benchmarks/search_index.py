"""What the search index costs and what its scores are worth.

    OMP_NUM_THREADS=1 python benchmarks/search_index.py corpus            # all embedded drawings: seconds, memory, milliseconds a search
    OMP_NUM_THREADS=1 python benchmarks/search_index.py million           # a million synthetic vectors of width 512, approximate index
    OMP_NUM_THREADS=1 python benchmarks/search_index.py answers           # is there an answer? normalised score against raw cosine

``answers`` takes 500 concepts that are always there, and removes every second of the others from the corpus, so that searches for their
names have no answer. AUROC says how well a number tells searches with an answer from those without (``answer``), and searches whose best
picture shows the concept from the others (``right``). The bank of names is that of an index, removed names among them (``full``), or holds
the names of the 500 concepts alone (``held out``: nobody has heard of the words that are asked for).

``million`` draws rows around centres, as embeddings lie; on rows without any structure no such index does well. Seconds are those of the
processor, all threads of this process, where nothing else is said: waiting for a busy core does not lengthen them.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import diptych
from diptych.data import pictograms
from diptych.search.approximate import build_approximate
from diptych.search.background import background
from diptych.search.build import build
from diptych.search.index import Index
from diptych.search.query import Query
from diptych.search.score import Crowd, features
from diptych.search.snapshot import Snapshot
from diptych.search.store import Store

CLOCK = time.process_time
SETS = ("pictograms/train", "pictograms/validation", "pictograms", "pictograms/unseen", "pictograms/unseen-known-styles")


def peak() -> int:
    """Highest resident memory of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def quantiles(seconds: list[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    return {f"p{q} ms": round(1000 * float(np.quantile(seconds, q / 100)), 1) for q in (50, 99)}


def corpus(folder: Path, model: str) -> dict[str, Any]:
    """Index every embedded drawing, again when nothing has changed, and search."""
    encoder, began, wall = diptych.load(model), CLOCK(), time.time()
    report = build(SETS, folder, encoder)
    found: dict[str, Any] = {"pictures": report.pictures, "seconds": round(CLOCK() - began, 1), "wall": round(time.time() - wall, 1)}
    began = CLOCK()
    build(SETS, folder, encoder)
    found["seconds again"] = round(CLOCK() - began, 1)
    found["peak MiB"] = peak()
    index, taken = Index.open(folder, encoder), []
    for concept in pictograms.concepts()[:200]:
        began = CLOCK()
        index.search(Query.of(concept.name))
        taken.append(CLOCK() - began)
    return {**found, "search": quantiles(taken)}


def million(folder: Path, rows: int, dim: int, centres: int) -> dict[str, Any]:
    """Rows around centres in LanceDB, the approximate index over them, and searches."""
    draw = np.random.default_rng(0)
    centre_KD = draw.standard_normal((centres, dim)).astype(np.float32)
    store, began = Store(folder, "pictures-synthetic", dim), CLOCK()
    for start in range(0, rows, 20_000):
        count = min(20_000, rows - start)
        row_ND = centre_KD[draw.integers(0, centres, count)] + draw.standard_normal((count, dim)).astype(np.float32)
        row_ND /= np.linalg.norm(row_ND, axis=1, keepdims=True)
        blank = {
            "source": "s",
            "key": "k",
            "path": "p",
            "hash": "0" * 64,
            "size": -1,
            "time": -1,
            "caption": None,
            "label": None,
            "meta": "{}",
        }
        store.add([{**blank, "id": f"{start + i:016x}", "slot": start + i, "vector": row_D} for i, row_D in enumerate(row_ND)])
    found: dict[str, Any] = {"rows": rows, "dim": dim, "centres": centres, "seconds of writing": round(CLOCK() - began, 1)}
    began = CLOCK()
    snapshot = Snapshot.of(store)
    found["seconds of the snapshot"] = round(CLOCK() - began, 1)
    began = CLOCK()
    settings = build_approximate(store, snapshot)
    found |= {"seconds of the index and of measuring recall": round(CLOCK() - began, 1), **settings}
    processor, wall = [], []
    for _ in range(200):
        query_D = snapshot.vectors_ND[int(draw.integers(rows))] + 0.3 * draw.standard_normal(dim).astype(np.float32) / np.sqrt(dim)
        began, now = CLOCK(), time.time()
        store.nearest(query_D, 20, settings["probes"], settings["refine"])
        processor.append(CLOCK() - began)
        wall.append(time.time() - now)
    return {**found, "search, processor": quantiles(processor), "search, wall": quantiles(wall), "peak MiB": peak()}


def auroc(value_N: np.ndarray, right_N: np.ndarray) -> float:
    """Share of pairs of a right and a wrong one that are in order; half for ties (the Mann–Whitney statistic)."""
    high, low = np.sort(value_N[right_N]), np.sort(value_N[~right_N])
    return float((np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")).sum() / (2 * len(high) * len(low)))


def answers(folder: Path, model: str, language: str, seeds: int) -> list[dict[str, Any]]:
    """AUROC, share of right yes-or-no answers and Brier score on the drawings of the styles that ``mini`` has not seen, and on all."""
    encoder = diptych.load(model)
    rehearsed = background(encoder, folder, "answers")
    every = [i for i, concept in enumerate(pictograms.concepts()) if not concept.unseen]
    name_of = [pictograms.concepts()[i].names[language] for i in every]
    names_MD, english_MD = (encoder.encode_text(text).numpy() for text in (name_of, [pictograms.concepts()[i].name for i in every]))
    row = {index: at for at, index in enumerate(every)}
    lines = []
    for corpus, splits in (("unseen styles", ("style",)), ("all styles", ("train", "validation", "style"))):
        samples = [sample for split in splits for sample in pictograms.samples(split) if sample.label in row]
        rows_ND, label_N = encoder.encode_image(samples).numpy(), np.array([row[s.label] for s in samples if s.label is not None])
        for kind in ("full", "held out"):
            figures = []
            for seed in range(seeds):
                order = np.random.default_rng(seed).permutation(len(every))
                bank, present, absent = order[:500], order[500::2], order[501::2]
                kept = np.isin(label_N, [*bank, *present])
                bank_MD = english_MD[bank] if kind == "held out" else rehearsed.names_MD
                figures.append(one(rows_ND[kept], label_N[kept], names_MD, bank_MD, present, absent, rehearsed))
            mean = {name: round(float(np.mean([f[name] for f in figures])), 3) for name in figures[0]}
            lines.append({"corpus": corpus, "bank": kind, "language": language, "seeds": seeds, **mean})
    return lines


def one(rows_ND: Any, label_N: Any, names_MD: Any, bank_MD: Any, present: Any, absent: Any, rehearsed: Any) -> dict[str, float]:
    """The figures of one draw."""
    asked = np.concatenate([present, absent])
    query_QD = names_MD[asked]
    top_Q = (query_QD @ rows_ND.T).argmax(1)
    cosine_Q = np.einsum("qd,qd->q", query_QD, rows_ND[top_Q])
    crowds = [rehearsed.crowd, Crowd.of(rows_ND)]
    score_Q = np.array(
        [
            rehearsed.words.probability(features(query_QD[i : i + 1], rows_ND[top_Q[i]][None], crowds, bank_MD)[0, 0], len(rows_ND))
            for i in range(len(asked))
        ]
    )
    has, right = np.isin(asked, label_N), label_N[top_Q] == asked
    found = {}
    for name, truth in (("answer", has), ("right", right)):
        found |= {f"{name} share": truth.mean(), f"{name} cosine": auroc(cosine_Q, truth), f"{name} score": auroc(score_Q, truth)}
    return found | {
        "mean score": score_Q.mean(),
        "brier": ((score_Q - right) ** 2).mean(),
        "yes or no right": ((score_Q >= 0.5) == right).mean(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("corpus", "million", "answers"))
    parser.add_argument("--model", default="mini")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--centres", type=int, default=5000)
    parser.add_argument("--language", default="en")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="search-index-"))
    try:
        if args.what == "corpus":
            found: Any = corpus(folder, args.model)
        elif args.what == "million":
            found = million(folder, args.rows, args.dim, args.centres)
        else:
            found = answers(folder, args.model, args.language, args.seeds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
