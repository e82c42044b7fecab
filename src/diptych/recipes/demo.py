"""The demo: a small convolutional tower learns, in minutes, to put drawings where MiniLM puts their words.

The text side is that of ``pocket``, frozen, so that every caption is encoded once; the image tower starts from nothing, at 32 px.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diptych.data.augment import Augment
from diptych.engine.run import BudgetConfig, DataConfig, InitConfig, OptimConfig, Run, SaveConfig

SETS = ["pictograms/zero-shot", "pictograms/unseen", "pictograms/retrieval"]
WRITTEN = ("checkpoints", "model", "run.yaml", "log.jsonl", "records.jsonl", "details.json", "report.html")
AUGMENT = Augment(
    scale=(0.8, 1.25),
    shift=0.12,
    flip=0.3,
    brightness=0.3,
    contrast=0.3,
    saturation=0.5,
    hue=0.1,
    grayscale=0.15,
    background=0.4,
)


def demo(seconds: float = 240.0) -> Run:
    """The run: drawings of the training styles against frozen MiniLM captions, for ``seconds`` of training."""
    return Run(
        name="demo",
        init=InitConfig(preset="demo", text_from="pocket", freeze=("text", "text_projection")),
        data=DataConfig(path="pictograms/train", batch=256, augment=AUGMENT),
        optim=OptimConfig(lr=2e-3, ema=0.99, warmup=0.03),
        budget=BudgetConfig(seconds=seconds),
        save=SaveConfig(every=100, log_every=5, keep=1),
    )


def check(model: Any) -> Callable[[Any], dict[str, float]]:
    """A validator on ``pictograms/validation`` for a model whose text side is frozen: the classes' rows are made once.

    Args:
        model: gives the rows of the class names, now.
    """
    import torch

    from diptych.data.open import open as open_data

    samples = list(open_data("pictograms/validation"))
    classes = open_data("pictograms/zero-shot").classes or ()
    text_KD = model.encode_text(list(classes))
    label_N = torch.tensor([sample.label for sample in samples])

    def validate(model: Any) -> dict[str, float]:
        top_N5 = (model.encode_image(samples) @ text_KD.T).topk(5).indices == label_N[:, None]
        return {"top1": float(top_N5[:, 0].float().mean()), "top5": float(top_N5.any(1).float().mean())}

    return validate


def run_demo(out: Path, seconds: float, console: Any) -> dict[str, Any]:
    """Train, evaluate, write ``out/report.html``.

    An interrupted demo goes on where it stopped; a finished one is done again from the start.

    Args:
        out: the run's folder.
        seconds: of training.
        console: a rich console for what is said on the way.

    Returns:
        ``records`` (as in ``records.jsonl``), ``report``, ``model`` and ``run`` (paths as text).
    """
    from diptych.engine.build import build_model
    from diptych.engine.loop import train
    from diptych.evaluate.run import evaluate

    if (out / "model").exists():
        for name in WRITTEN:
            path = out / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    run = demo(seconds)
    console.print("[bold]diptych demo[/]: an image tower learns from nothing to meet the words of a frozen sentence encoder.")
    console.print(f"Its data are drawings that come with the package; nothing is downloaded. It trains for {seconds:.0f} s.")
    model = build_model(run)
    result = train(run, out, model=model, validate=check(model))
    console.print("Measuring on styles and concepts that it never saw …")
    records = evaluate(result.model, SETS, out=out, cache=False, command="diptych demo", progress=True)
    return {
        "records": [record.as_dict() for record in records],
        "report": str(out / "report.html"),
        "model": str(out / "model"),
        "run": str(out / "run.yaml"),
    }
