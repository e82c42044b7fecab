"""Seconds and memory until a pretraining run names what it never saw drawn so: ours with its defaults beside open_clip on its own terms.

    OMP_NUM_THREADS=1 python benchmarks/pretrain.py                # hours where open_clip is slow; start again to go on
    OMP_NUM_THREADS=1 python benchmarks/pretrain.py --smoke        # a few steps of each side: does it run?

Needs open_clip (with torchvision) in the environment; see docs/measured.md. Data: ``study/train`` of the embedded corpus; target: top-5 of
``study/zero-shot``, the same concepts in styles never trained on, names without template.

Equal on both sides: the two transformers and their first weights, CLIP's byte pairs with 77 positions, the loader (its time counts for
both), the augmentation, batch, number of steps, warm-up and cosine, betas and epsilon, threads. Apart from that

* ours is what ``diptych train`` does unless told otherwise: learning rate 1e-3, weight decay 0.1, gradient norm at most 1, bfloat16 where
  the processor has it, pairs of one concept positives of one another, equal captions encoded once and cropped;
* open_clip does what its training loop does: float32, ClipLoss, every caption at 77 tokens, AdamW with its weight decay of 0.2, the scale
  clamped; its learning rate is the best of three, by the seconds to the target (tuning itself is not counted).

Each side runs in a process of its own, which gives its highest resident memory. The clock is the process's own seconds, or the wall's with
``--clock wall``; it stands still while the model is judged, every ``--every`` steps. A side that has spent ``--seconds`` ends there.
Finished sides are kept in the output file, by their settings, and are not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter}
RATES = (5e-4, 1e-3, 2e-3)
WARMUP = 0.05
SIZE: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 32, "layers": 4, "width": 128, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 4},
}


def settings(args: argparse.Namespace) -> Any:
    """Our run: everything that is not named is a default."""
    from diptych.data.augment import Augment
    from diptych.engine.run import BudgetConfig, DataConfig, InitConfig, OptimConfig, Run

    augment = Augment(scale=(0.8, 1.25), shift=0.12, flip=0.3, brightness=0.3, contrast=0.3, saturation=0.5, hue=0.1, grayscale=0.15)
    return Run(
        name="pretrain",
        seed=args.seed,
        init=InitConfig(preset="study-pair"),
        data=DataConfig(path="study/train", batch=args.batch, augment=augment, workers=0),
        optim=OptimConfig(warmup=WARMUP),
        budget=BudgetConfig(steps=args.steps),
    )


def first_models(args: argparse.Namespace) -> tuple[Any, Any]:
    """open_clip's model and ours with the same weights."""
    import train_step

    train_step.MODELS["pretrain"] = SIZE
    torch.manual_seed(args.seed)
    theirs = train_step.peer("pretrain")
    return theirs, train_step.ours("pretrain", theirs.state_dict())


def our_stepping(args: argparse.Namespace) -> tuple[Callable[[Any, int], None], Callable[[], Any]]:
    """Our step, and what gives the model as it is."""
    from diptych.engine.build import build_tokens
    from diptych.engine.optim import rate
    from diptych.engine.parallel import Ranks
    from diptych.engine.step import Stepper

    run, ranks = settings(args), Ranks(0, 1, 0, torch.device("cpu"))
    model = first_models(args)[1]
    stepper = Stepper(run, model, ranks, build_tokens(run, ranks.device))

    def step(batch: Any, index: int) -> None:
        stepper(batch, index, rate(run.optim, index / args.steps, 1 / args.steps))

    return step, lambda: model


def their_stepping(args: argparse.Namespace) -> tuple[Callable[[Any, int], None], Callable[[], Any]]:
    """open_clip's step with its warm-up and cosine, and what gives its weights in our model."""
    import train_step
    from open_clip.loss import ClipLoss

    model, ours = first_models(args)
    mean, std = ours.mean.clone(), ours.std.clone()
    named = list(model.named_parameters())
    plain = {name for name, p in named if p.ndim < 2 or "bn" in name or "ln" in name or "bias" in name or "logit_scale" in name}
    groups = [
        {"params": [p for name, p in named if (name in plain) is flag], "weight_decay": 0.0 if flag else 0.2} for flag in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=train_step.BETAS, eps=train_step.EPS)
    loss_of, warm = ClipLoss(), max(1, round(WARMUP * args.steps))
    model.train()

    def step(batch: Any, index: int) -> None:
        along = (index - warm) / max(1, args.steps - warm)
        lr = args.lr * ((index + 1) / warm if index < warm else 0.5 * (1 + math.cos(math.pi * along)))
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        loss = loss_of(*model((batch.image_BCHW.float() / 255 - mean) / std, batch.text_BL))
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))

    return step, lambda: train_step.ours("pretrain", model.state_dict())


def judge(model: Any) -> dict[str, float]:
    """Top-1 and top-5 among all names of the set."""
    from diptych.data.open import open as open_data

    data = open_data("study/zero-shot")
    samples = list(data)
    training = model.training
    image_ND, text_KD = model.encode_image(samples), model.encode_text(list(data.classes))
    model.train(training)
    target_N = torch.tensor([sample.label for sample in samples])
    hit_N5 = (image_ND @ text_KD.T).topk(5).indices == target_N[:, None]
    return {"top-1": round(float(hit_N5[:, 0].double().mean()), 4), "top-5": round(float(hit_N5.any(1).double().mean()), 4)}


def one_side(args: argparse.Namespace) -> dict[str, Any]:
    """The curve of one side: seconds, steps and accuracy."""
    from diptych.data.open import open as open_data
    from diptych.engine.build import build_loader
    from diptych.engine.parallel import Ranks

    clock = CLOCKS[args.clock]
    step, model = (our_stepping if args.side == "diptych" else their_stepping)(args)
    curve, spent, done = [], 0.0, 0
    with build_loader(settings(args), open_data("study/train"), model(), Ranks(0, 1, 0, torch.device("cpu"))) as loader:
        while done < args.steps and spent < args.seconds:
            began = clock()
            for _ in range(min(args.every, args.steps - done)):
                step(next(loader), done)
                done += 1
            spent += clock() - began
            curve.append({"step": done, "seconds": round(spent, 2), **judge(model())})
            print(f"{args.side} {args.lr:g} {curve[-1]}", file=sys.stderr, flush=True)
            if curve[-1]["top-5"] >= args.target and not args.whole:
                break
    reached = next((row["seconds"] for row in curve if row["top-5"] >= args.target), None)
    memory = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    return {"seconds to target": reached, "seconds a step": round(spent / done, 4), "MiB": memory, "curve": curve}


def child(args: argparse.Namespace, side: str, lr: float) -> dict[str, Any]:
    """One side in a process of its own."""
    own = ("steps", "batch", "every", "target", "seconds", "seed", "clock")
    command = [sys.executable, __file__, "--side", side, "--lr", str(lr), *(["--whole"] if args.whole else [])]
    for name in own:
        command += [f"--{name}", str(getattr(args, name))]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def summary(sides: dict[str, Any]) -> dict[str, Any]:
    """Ours against the fastest of open_clip's rates."""
    ours = next(row for key, row in sides.items() if key.startswith("diptych"))
    theirs = {key: row for key, row in sides.items() if key.startswith("open_clip") and row["seconds to target"] is not None}
    if not theirs or ours["seconds to target"] is None:
        return {"ratio": None, "why": "a side did not reach the target within its steps or seconds"}
    best = min(theirs, key=lambda key: theirs[key]["seconds to target"])
    found = {"open_clip's best": best, "ratio": round(ours["seconds to target"] / theirs[best]["seconds to target"], 3)}
    return {**found, "memory ratio": round(ours["MiB"] / theirs[best]["MiB"], 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600, help="length of the schedule")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--every", type=int, default=25, help="steps between two judgements")
    parser.add_argument("--target", type=float, default=0.2, help="top-5 on unseen styles")
    parser.add_argument("--seconds", type=float, default=3000.0, help="most seconds of one side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clock", choices=CLOCKS, default="cpu")
    parser.add_argument("--out", type=Path, default=Path("pretrain.json"))
    parser.add_argument("--whole", action="store_true", help="train to the end of the schedule, beyond the target")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--side", choices=("diptych", "open_clip"), help=argparse.SUPPRESS)
    parser.add_argument("--lr", type=float, default=1e-3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(one_side(args)))
        return
    if args.smoke:
        args.steps, args.every, args.batch = 4, 2, 16
    told = {name: getattr(args, name) for name in ("steps", "batch", "every", "target", "seconds", "seed", "clock", "whole")}
    found: dict[str, Any] = {"settings": told, "torch": torch.__version__, "threads": torch.get_num_threads(), "sides": {}}
    if args.out.exists() and not args.smoke and (old := json.loads(args.out.read_text()))["settings"] == told:
        found = old
    for side, lr in [("diptych", 1e-3), *(("open_clip", lr) for lr in RATES)]:
        if (key := f"{side}, learning rate {lr:g}") not in found["sides"]:
            found["sides"][key] = {**child(args, side, lr), "load": round(os.getloadavg()[0], 2)}
            if not args.smoke:
                args.out.write_text(json.dumps(found, indent=1) + "\n")
    found["result"] = summary(found["sides"])
    if not args.smoke:
        args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({"settings": told, **found["result"]} if not args.smoke else found, indent=1))


if __name__ == "__main__":
    main()
