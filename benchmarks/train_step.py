"""One training step beside open_clip's: same weights, same batch, same optimiser settings, one process, turn by turn.

    python benchmarks/train_step.py                      # ViT of width 192, depth 12, patch 8, 64 px; text of width 192, depth 12
    python benchmarks/train_step.py --model vit-b-32     # ViT-B/32 at 224 px, text of width 512, depth 12
    python benchmarks/train_step.py --data PATH          # real pictures and captions in place of drawn ones

Needs open_clip (with torchvision) in the environment; see docs/measured.md for the one that was used. Pictures are decoded
and resized beforehand. open_clip gets them as normalised float32 and captions padded to 77 ids, as its loader gives them,
and does what its training loop does: forward, ClipLoss, backward, AdamW, clamp of the scale. We get uint8 and ids and do
all of our step: equal captions, cropping, normalising, forward, loss, backward, gradient norm, AdamW, checks.

On a machine that others use, ``OMP_NUM_THREADS=1 … --clock cpu`` counts the process's own seconds, which waiting does not lengthen.

What is printed: the median time of each side, the ratio of medians, the losses of the first step (equal weights, so
equal losses) and the highest resident memory of each side in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

from diptych.core.rng import generator
from diptych.core.types import Batch
from diptych.engine.build import build_loader, build_tokens
from diptych.engine.parallel import Ranks
from diptych.engine.run import Run
from diptych.engine.step import Stepper
from diptych.towers.formats.open_clip import import_state
from diptych.towers.formats.open_clip_config import parse_config

MODELS: dict[str, dict[str, Any]] = {
    "vit-s-8-64": {
        "embed_dim": 192,
        "vision_cfg": {"image_size": 64, "layers": 12, "width": 192, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 192, "heads": 3, "layers": 12},
    },
    "vit-b-32": {
        "embed_dim": 512,
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
    },
}
LR, DECAY, BETAS, EPS = 5e-4, 0.2, (0.9, 0.98), 1e-6
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
CLOCK = time.perf_counter
CPU = Ranks(0, 1, 0, torch.device("cpu"))


def settings(batch: int, half: bool) -> Run:
    """Our run with open_clip's optimiser settings."""
    values: dict[str, Any] = {
        "init": {"preset": "vit-b-32"},
        "data": {"batch": batch, "workers": 0},
        "optim": {"lr": LR, "weight_decay": DECAY, "betas": BETAS, "eps": EPS, "clip_grad": None},
        "budget": {"steps": 1000},
        "precision": "off",
    }
    if half:
        values["tokens"] = {"name": "random-mask", "options": {"ratio": 0.5}}
    return Run.from_dict(values)


def peer(name: str) -> CLIP:
    """open_clip's model with its own random weights."""
    torch.manual_seed(0)
    cfg = MODELS[name]
    return CLIP(cfg["embed_dim"], CLIPVisionCfg(**cfg["vision_cfg"]), CLIPTextCfg(**cfg["text_cfg"]))


def ours(name: str, weights: dict[str, torch.Tensor]) -> Any:
    """Our model with the same weights and CLIP's tokenizer."""
    from diptych.data.tokenizers import Tokenizer

    return import_state(parse_config(MODELS[name], name), Tokenizer.clip(77), {key: value.clone() for key, value in weights.items()}, name)


def drawn(rows: int, side: int, mean: float) -> Batch:
    """Noise pictures and different captions; lengths, both marks included, have the given mean (normal, deviation 4, 5 to 40)."""
    draw = generator(0, "benchmark")
    image = torch.randint(0, 256, (rows, 3, side, side), generator=draw, dtype=torch.uint8)
    text = torch.zeros(rows, 77, dtype=torch.long)
    length = (torch.randn(rows, generator=draw) * 4 + mean).round().long().clamp(5, 40)
    for row, count in enumerate(length.tolist()):
        text[row, 0], text[row, count - 1] = 49406, 49407
        text[row, 1 : count - 1] = torch.randint(1000, 49000, (count - 2,), generator=draw)
    return Batch(image, text, tuple(map(str, range(rows))), torch.arange(rows))


def batches(args: argparse.Namespace, model: Any, count: int) -> list[Batch]:
    """As many batches as are asked for, from the user's data or drawn once."""
    if args.data is None:
        return [drawn(args.batch, model.config.preprocess.size[0], args.mean)] * count
    from diptych.data.open import open as open_data

    with build_loader(settings(args.batch, False), open_data(args.data), model, CPU) as loader:
        return [next(loader) for _ in range(count)]


def peer_step(model: CLIP, mean: torch.Tensor, std: torch.Tensor) -> Callable[[Batch], float]:
    """open_clip's step; the batch is normalised outside of the time that is measured."""
    named = list(model.named_parameters())
    plain = [p for n, p in named if p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n]
    rest = [p for n, p in named if not any(p is q for q in plain)]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": rest, "weight_decay": DECAY}]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=BETAS, eps=EPS)
    loss_of = ClipLoss()
    model.train()

    def step(batch: Batch) -> float:
        images = (batch.image_BCHW.float() / 255 - mean) / std
        began = CLOCK()
        optimizer.zero_grad()
        image, text, scale = model(images, batch.text_BL)
        loss = loss_of(image, text, scale)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.6052)
        took = CLOCK() - began
        step.loss = loss.item()  # type: ignore[attr-defined]
        return took

    return step


def our_step(model: Any, batch: int, half: bool) -> Callable[[Batch], float]:
    """Our whole step."""
    run = settings(batch, half)
    stepper, count = Stepper(run, model, CPU, build_tokens(run, CPU.device)), 0

    def step(batch: Batch) -> float:
        nonlocal count
        began = CLOCK()
        done = stepper(batch, count, LR)
        took = CLOCK() - began
        count += 1
        step.loss = float(done.loss)  # type: ignore[attr-defined]
        return took

    return step


def sides(args: argparse.Namespace, only: str | None = None) -> tuple[dict[str, Callable[[Batch], float]], list[Batch]]:
    """The steps to compare, and their batches."""
    theirs = peer(args.model)
    model = ours(args.model, theirs.state_dict())
    data = batches(args, model, args.steps + args.warmup)
    mean, std = model.mean.clone(), model.std.clone()
    made: dict[str, Callable[[], Callable[[Batch], float]]] = {
        "open_clip": lambda: peer_step(theirs, mean, std),
        "diptych": lambda: our_step(model, args.batch, False),
        "diptych, half the image tokens": lambda: our_step(ours(args.model, theirs.state_dict()), args.batch, True),
    }
    return {name: make() for name, make in made.items() if only in (None, name)}, data


def memory(args: argparse.Namespace, name: str) -> float:
    """Highest resident MiB of a process that does nothing but this side's steps."""
    command = [sys.executable, __file__, "--only", name, "--model", args.model, "--batch", str(args.batch), "--mean", str(args.mean)]
    command += ["--data", args.data] if args.data else []
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    global CLOCK
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="vit-s-8-64")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--mean", type=float, default=12.0, help="mean tokens of a drawn caption, marks included")
    parser.add_argument("--data", help="pictures and captions that diptych.data.open reads")
    parser.add_argument("--memory", action="store_true", help="also measure memory, each side in its own process")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    CLOCK = CLOCKS[args.clock]
    if args.only:
        args.steps, args.warmup = 3, 0
    steps, data = sides(args, args.only)
    times: dict[str, list[float]] = {name: [] for name in steps}
    losses: dict[str, float] = {}
    for index, batch in enumerate(data):
        for name, step in steps.items():
            took = step(batch)
            losses.setdefault(name, step.loss)  # type: ignore[attr-defined]
            if index >= args.warmup:
                times[name].append(took)
    if args.only:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    median = {name: statistics.median(values) for name, values in times.items()}
    lengths = [int(n) for batch in data for n in (batch.text_BL != 0).sum(1)]
    found = {
        "model": args.model,
        "batch": args.batch,
        "steps": args.steps,
        "clock": args.clock,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "data": args.data or "drawn",
        "tokens a caption": {"mean": round(statistics.mean(lengths), 2), "max": max(lengths)},
        "seconds a step": {name: round(value, 4) for name, value in median.items()},
        "samples/s": {name: round(args.batch / value, 2) for name, value in median.items()},
        "times open_clip": {name: round(median["open_clip"] / value, 3) for name, value in median.items()},
        "loss of the first step": losses,
    }
    if args.memory:
        found["highest resident MiB"] = {name: round(memory(args, name), 1) for name in steps}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
