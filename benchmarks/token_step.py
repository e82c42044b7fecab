"""What a token method spares of a training step: the same batch with all image tokens and with half of them, turn by turn.

    OMP_NUM_THREADS=1 python benchmarks/token_step.py                    # ViT-S/8 at 64 px, text frozen; processor seconds
    OMP_NUM_THREADS=1 python benchmarks/token_step.py --preset vit-b-16 --batch 8

The image tower is what token methods thin, so the text side is frozen and its rows are kept, as in image-only tuning; ``--text`` trains
it too. Every method leaves half of the tokens: ``random-mask`` and ``a-clip`` before the first block, the others on the way, so that they
spare less, or inside the first block ("early"). ``a-clip`` pays for its look with the average tower, here at half the resolution. Goal: at
most 0.6 of the full step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch

from diptych.core.rng import generator
from diptych.core.types import Batch
from diptych.engine.build import build_model, build_tokens
from diptych.engine.parallel import Ranks
from diptych.engine.run import Run
from diptych.engine.step import Stepper, freeze

CPU = Ranks(0, 1, 0, torch.device("cpu"))
METHODS: dict[str, dict[str, Any] | None] = {
    "all tokens": None,
    "random-mask": {"name": "random-mask", "options": {"ratio": 0.5}},
    "a-clip": {"name": "a-clip", "options": {"ratio": 0.5, "resolution": 0.5}},
    "tome": {"name": "tome", "options": {"ratio": 0.5}},
    "pitome": {"name": "pitome", "options": {"ratio": 0.5}},
    "evit": {"name": "evit", "options": {"ratio": 0.5}},
    "tome, early": {"name": "tome", "options": {"ratio": 0.5, "spread": "early"}},
    "pitome, early": {"name": "pitome", "options": {"ratio": 0.5, "spread": "early"}},
    "evit, early": {"name": "evit", "options": {"ratio": 0.5, "blocks": [0]}},
}
CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter}


def stepper(args: argparse.Namespace, tokens: dict[str, Any] | None) -> Stepper:
    """A stepper of the preset with a token method."""
    values: dict[str, Any] = {
        "name": "token-step",
        "init": {"preset": args.preset, "freeze": [] if args.text else ["text", "text_projection"]},
        "data": {"batch": args.batch, "workers": 0},
        "budget": {"steps": 1000},
        "precision": "off",
        "tokens": tokens,
    }
    run = Run.from_dict(values)
    model = build_model(run)
    freeze(model, run.init.frozen)
    return Stepper(run, model, CPU, build_tokens(run, CPU.device))


def batch_of(rows: int, side: int, context: int) -> Batch:
    """Noise pictures, and captions of 12 ids."""
    draw = generator(0, "token-step")
    text = torch.zeros(rows, context, dtype=torch.long)
    text[:, :12] = torch.randint(1, 300, (rows, 12), generator=draw)
    image = torch.randint(0, 256, (rows, 3, side, side), generator=draw, dtype=torch.uint8)
    return Batch(image, text, tuple(map(str, range(rows))), torch.arange(rows))


def main() -> None:
    """Print the median step of each method and its share of the full one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="vit-s-8-64")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--text", action="store_true", help="train the text tower too")
    parser.add_argument("--only", nargs="*", choices=METHODS, help="these methods beside all tokens")
    parser.add_argument("--clock", choices=CLOCKS, default="cpu")
    args = parser.parse_args()
    clock = CLOCKS[args.clock]
    chosen = [name for name in METHODS if name == "all tokens" or args.only is None or name in args.only]
    steppers = {name: stepper(args, METHODS[name]) for name in chosen}
    first = next(iter(steppers.values())).model
    batch = batch_of(args.batch, first.config.preprocess.size[0], first.text.context)
    times: dict[str, list[float]] = {name: [] for name in steppers}
    for step in range(args.steps + 2):
        for name, each in steppers.items():
            began = clock()
            each(batch, step, 1e-4)
            if step >= 2:
                times[name].append(clock() - began)
    median = {name: statistics.median(values) for name, values in times.items()}
    found = {
        "preset": args.preset,
        "batch": args.batch,
        "text": "trained" if args.text else "frozen",
        "clock": args.clock,
        "threads": torch.get_num_threads(),
        "seconds a step": {name: round(value, 4) for name, value in median.items()},
        "of the full step": {name: round(value / median["all tokens"], 3) for name, value in median.items()},
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
