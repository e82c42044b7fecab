"""Seconds to fit each method that works on rows, at the size of the embedded corpus: 1,450 classes of 16 pictures at width 512.

    OMP_NUM_THREADS=2 python benchmarks/adapt_speed.py gda-clip tip-adapter
    OMP_NUM_THREADS=2 python benchmarks/adapt_speed.py --choose nearest-mean

Without names: every method on rows whose answer is a closed form. Rows are drawn at random, which costs what real ones cost. ``--choose``
times the cross-validation over the method's grid as well. Prints a JSON line a method: seconds of the fit by the clock and of all
processors (the least of three each; on a busy machine only the second means something) and, with ``--choose``, of choosing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.shots import Shots
from diptych.core import registry
from diptych.core.rng import generator
from diptych.engine.fewshot import choose, make

CLOSED = ("nearest-mean", "gda-clip", "tip-adapter", "caps-adapter", "knn", "laplacian-shot", "transductive-mv-zsl")


def world(classes: int, each: int, width: int, free: int) -> Shots:
    """Classes around random directions, words near them, a pool, and a caption a picture whose row is at hand."""
    draw = generator(0, "adapt speed")
    text_KD = F.normalize(torch.randn(classes, width, generator=draw), dim=1)

    def pictures(label_N: Tensor) -> Tensor:
        return F.normalize(text_KD[label_N] + 0.05 * torch.randn(len(label_N), width, generator=draw), dim=1)

    label_S = torch.arange(classes).repeat_interleave(each)
    captions = tuple((f"picture {i}",) for i in range(len(label_S)))
    caption_SD = pictures(label_S)

    def encode(texts: Sequence[str]) -> Tensor:
        return caption_SD[: len(texts)]

    names = tuple(f"class {k}" for k in range(classes))
    pool_UD = pictures(torch.arange(free) % classes)
    return Shots(pictures(label_S), label_S, text_KD, names, 100.0, draw, pool_UD, captions, encode=encode)


def seconds(run: Callable[[], Any], times: int = 3) -> tuple[float, float]:
    """By the clock and of the processors, the least of some runs."""
    found = []
    for _ in range(times):
        clock, busy = time.perf_counter(), time.process_time()
        run()
        found.append((time.perf_counter() - clock, time.process_time() - busy))
    return min(one for one, _ in found), min(other for _, other in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=list(CLOSED))
    parser.add_argument("--classes", type=int, default=1450)
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--free", type=int, default=2900, help="pictures without labels")
    parser.add_argument("--choose", action="store_true", help="time the choice of options as well")
    asked = parser.parse_args()
    shots = world(asked.classes, asked.shots, asked.width, asked.free)
    for identity in asked.methods:
        entry = registry.find(identity, "adapt")
        fit = seconds(lambda: make(entry, shots, {}))  # noqa: B023
        row: dict[str, Any] = {"method": identity, "fit": round(fit[0], 3), "fit_processor": round(fit[1], 3)}
        if asked.choose:
            chosen = seconds(lambda: choose(identity, shots, {}), 1)  # noqa: B023
            row |= {"choose": round(chosen[0], 2), "choose_processor": round(chosen[1], 2)}
        row |= {
            "threads": torch.get_num_threads(),
            "classes": asked.classes,
            "shots": asked.shots,
            "width": asked.width,
            "free": asked.free,
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
