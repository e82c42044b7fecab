"""A run for data that comes without a recipe: chosen from the data's size, the pictures' size and the machine, with reasons.

The rules rest on what was measured on two cores (docs/measured.md): below some hundred thousand pairs two towers from
nothing stay at chance for a long time, whereas an image tower against frozen sentence embeddings learns within minutes.
"""

from __future__ import annotations

import io
import os
import statistics
from dataclasses import dataclass
from typing import Literal

import torch
from PIL import Image

from diptych.data.augment import Augment
from diptych.data.sources.base import BrokenSample, Dataset
from diptych.engine.run import BudgetConfig, DataConfig, InitConfig, OptimConfig, Run, SaveConfig

Tune = Literal["all", "heads", "image"]
LOOKED_AT = 64  # samples that are looked at
SMALL_SIDE = 48  # pictures up to this side lose nothing at 32 px
FROM_NOTHING = 300_000  # pairs from which two towers are trained from nothing
LARGE = 3_000_000
READABLE = 0.8  # share of letters that the English text tower can read
CPU_HOURS = 2.0
IMAGES_PER_S = {"demo": 200.0, "mini": 60.0, "vit-s-8-64": 25.0, "other": 5.0}  # of one core, in round numbers
SIDED = frozenset({"left", "right"})


@dataclass(frozen=True, slots=True)
class Machine:
    """What a run may use: ``cuda`` devices or, with 0, CPU ``cores``."""

    devices: int
    cores: int

    @staticmethod
    def here() -> Machine:
        """This machine."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return Machine(torch.cuda.device_count(), cores)


@dataclass(frozen=True, slots=True)
class Look:
    """What some samples showed: the median shorter side in pixels, the share of ASCII among the captions' letters, and
    whether captions speak of left and right."""

    side: int
    ascii: float
    sided: bool


def look(dataset: Dataset) -> Look:
    """Look at up to 64 samples, evenly spread; unreadable ones are left to the preflight."""
    sides, letters, plain, sided = [], 0, 0, 0
    for index in range(0, len(dataset), max(1, len(dataset) // LOOKED_AT)):
        try:
            sample = dataset[index]
            with Image.open(io.BytesIO(sample.image) if isinstance(sample.image, bytes) else sample.image) as image:
                sides.append(min(image.size))
        except (BrokenSample, OSError, Image.DecompressionBombError):
            continue
        words = " ".join(sample.captions)
        letters += sum(character.isalpha() for character in words)
        plain += sum(character.isalpha() and character.isascii() for character in words)
        sided += bool(SIDED & set(words.lower().split()))
    return Look(int(statistics.median(sides)) if sides else 224, plain / letters if letters else 1.0, sided > len(sides) * 0.02)


def auto(dataset: Dataset, *, start: str | None = None, tune: Tune = "all", machine: Machine | None = None) -> tuple[Run, list[str]]:
    """A run for ``dataset`` and, line by line, why.

    Args:
        start: model to go on from; None begins with a fresh image tower.
        tune: what is trained of ``start`` (see :class:`diptych.engine.run.InitConfig`).
        machine: what to plan for; by default this machine.
    """
    machine, seen, count = machine or Machine.here(), look(dataset), len(dataset)
    where = f"{machine.devices} GPU" if machine.devices else f"{machine.cores} CPU cores"
    why = [f"{count:,} samples, pictures of about {seen.side} px, {where}"]
    init, lr, size = _start(count, seen, machine, start, tune, why)
    batch = _batch(count, machine, size)
    why.append(f"batch {batch}: the most that this machine and {count:,} samples bear, since every row is a negative of the others")
    steps = _steps(count, batch, machine, size, start is not None, why)
    augment = _augment(seen, size, why)
    ema = 0.999 if steps >= 2000 else 0.99
    run = Run(
        name="auto",
        init=init,
        data=DataConfig(path=dataset.path, batch=batch, augment=augment, workers=min(machine.cores, 8)),
        optim=OptimConfig(lr=lr, ema=ema, warmup=0.05),
        budget=BudgetConfig(steps=steps),
        save=SaveConfig(every=max(50, steps // 20), log_every=max(1, min(10, steps // 50))),
    )
    return run, why


def _start(count: int, seen: Look, machine: Machine, start: str | None, tune: Tune, why: list[str]) -> tuple[InitConfig, float, str]:
    """What the weights start from, the learning rate, and the size's name for the estimate of speed."""
    if start is not None:
        lr = {"all": 5e-5, "image": 1e-4, "heads": 1e-3}[tune]
        why.append(f"starts from {start}, trains {tune}, learning rate {lr:g}: low enough to keep what it knows")
        return InitConfig(from_=start, tune=tune), lr, "other"
    readable = seen.ascii >= READABLE
    if count < FROM_NOTHING and readable:
        preset = "demo" if seen.side <= SMALL_SIDE else "mini"
        why.append(f"a fresh {preset!r} image tower against frozen sentence embeddings: {count:,} pairs are too few to learn words from")
        return InitConfig(preset=preset, text_from="pocket", freeze=("text", "text_projection")), 2e-3, preset
    reason = "pairs enough to learn words from" if readable else "captions that the English text tower cannot read"
    if not machine.devices or seen.side <= 96:
        preset = "vit-s-8-64"
    else:
        preset = "vit-b-16" if count >= LARGE else "vit-b-32"
    why.append(f"both towers of {preset!r} from nothing: {reason}")
    return InitConfig(preset=preset), 1e-3 if preset == "vit-s-8-64" else 5e-4, preset


def _batch(count: int, machine: Machine, size: str) -> int:
    """A power of two: what the machine bears, at most a quarter of the data, at least 2."""
    if machine.devices:
        most = 1024 * machine.devices
    else:
        most = 256 if size in ("demo", "mini") else 128 if size == "vit-s-8-64" else 64
    limit = max(2, min(most, count // 4))
    return 1 << (limit.bit_length() - 1)


def _steps(count: int, batch: int, machine: Machine, size: str, tuned: bool, why: list[str]) -> int:
    """Passes over the data, within bounds; on a CPU at most two hours by a rough estimate."""
    passes, least, most = (10, 20_000, 10_000_000) if tuned else (30, 100_000, 400_000_000)
    samples = min(max(passes * count, least), most)
    plan = f"{samples:,} samples ({samples / count:.0f} passes)"
    if not machine.devices:
        speed = IMAGES_PER_S.get(size, IMAGES_PER_S["other"]) * machine.cores
        if samples > speed * CPU_HOURS * 3600:
            samples = int(speed * CPU_HOURS * 3600)
            plan = f"{samples:,} samples, what fits in about {CPU_HOURS:g} hours here"
        else:
            plan += f", about {max(1, round(samples / speed / 60))} minutes here"
    why.append(f"{plan}; change it with --set budget.epochs=… or budget.seconds=…")
    return max(1, samples // batch)


def _augment(seen: Look, size: str, why: list[str]) -> Augment:
    """Mild variation; no mirror images where captions speak of left and right."""
    flip = 0.0 if seen.sided else 0.5
    if seen.sided:
        why.append("no mirrored pictures: captions speak of left and right")
    area = (0.5, 1.0) if size != "other" else (0.8, 1.0)
    return Augment(crop_area=area, crop_ratio=(0.8, 1.25), flip=flip, brightness=0.2, contrast=0.2)
