"""Token methods off the shelf: a model that is trained already, whose pictures go through the token method of each arm.

The arms are runs of one model that differ in ``tokens``. The study's ViT (64 patches) is trained once a seed, without any token method, and
shared by all claims; ``mini`` (16 patches) ships trained. Where a method draws at random, the run's seed says what.

What is measured: retrieval, and how near a picture's row stays to its row without the method (their cosine). The hits of a retrieval change
for few pictures when tokens merge; the cosine sees every picture.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from common import Values, cache_folder, key_of, train_run
from measures import samples_of, texts
from starts import frozen
from torch import Tensor
from torch.nn import functional as F

from diptych.core import registry
from diptych.core.rng import seed_for
from diptych.core.types import Sample
from diptych.engine.options import options_of
from diptych.engine.run import BudgetConfig, InitConfig, ObjectiveConfig, Run, TokensConfig
from diptych.evaluate.metrics.retrieval import ranks
from diptych.towers.encode import evaluating, pixels
from diptych.towers.formats.load import load

SHIPPED = "mini as it ships, nothing trained"
DRAWS = tuple(range(8))  # seeds of a model that ships: what is drawn at random is drawn so often
TRAINED = "the study's ViT trained without any token method, then nothing trained"
SETS = {"mini": "pictograms/retrieval", "study-vit": "study/retrieval"}


def tokens(name: str, **options: Any) -> TokensConfig:
    """A token method by name."""
    return TokensConfig(name=name, options=options)


def mini_with(method: TokensConfig) -> Run:
    """``mini`` and a token method; the step of the budget is not taken."""
    return Run(name="claim", init=InitConfig(from_="mini"), budget=BudgetConfig(steps=1), tokens=method)


def vit_with(method: TokensConfig) -> Run:
    """The study's ViT and a token method."""
    return frozen("study-vit", objective=ObjectiveConfig(name="clip"), tokens=method)


class Shelf:
    """A trained model whose pictures go through a token method; everything else is the model's."""

    def __init__(self, model: Any, method: Any, seed: int, label: str) -> None:
        self.model, self.method, self.seed, self.label = model, method, seed, label

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def rows(self, batches: list[Tensor], thinned: bool) -> Tensor:
        """Unit rows of batches of pixels, with the method or without."""
        if (draws := getattr(self.method, "generator", None)) is not None:
            draws.manual_seed(seed_for(self.seed, "shelf"))
        with evaluating(self.model):
            return torch.cat([self.model.image_features(batch, tokens=self.method if thinned else None) for batch in batches])


def off_the_shelf(run: Run, folder: Path, progress: bool) -> Shelf:
    """The run's model, trained where it is not yet, with the run's token method."""
    folder.mkdir(parents=True, exist_ok=True)
    assert run.tokens is not None
    method = registry.find(run.tokens.name, "tokens").make(options_of("tokens", run.tokens), "cpu")
    if run.init.from_ is not None:
        return Shelf(load(run.init.from_), method, run.seed, run.init.from_)
    plain = run.model_copy(update={"tokens": None})
    return Shelf(train_run(plain, cache_folder() / "runs" / key_of(plain), progress), method, run.seed, str(run.init.preset))


@functools.cache
def pictures(label: str, size: tuple[int, int]) -> tuple[list[Tensor], list[Sample]]:
    """The evaluation set of a model as batches of pixels, and its samples."""
    samples = list(samples_of(SETS[label])[0])
    model = load("mini") if label == "mini" else None
    preprocess = model.config.preprocess if model is not None else _study()
    assert preprocess.size == size
    return [torch.stack([pixels(s, preprocess) for s in samples[i : i + 256]]) for i in range(0, len(samples), 256)], samples


def _study() -> Any:
    from diptych.towers.presets import preset

    return preset("study-vit").preprocess


KEPT: dict[str, Tensor] = {}


def kept_rows(model: Shelf, batches: list[Tensor], thinned: bool) -> Tensor:
    """Rows; those that no seed changes are computed once."""
    draws = thinned and getattr(model.method, "generator", None) is not None
    key = f"{model.model.fingerprint()} {model.method if thinned else None} {model.seed if draws else None}"
    if key not in KEPT:
        KEPT[key] = model.rows(batches, thinned)
    return KEPT[key]


def fidelity_and_retrieval(model: Shelf) -> dict[str, Values]:
    """Cosine with the row without the method, recall and reciprocal rank both ways; the set's pictures are resampled."""
    batches, samples = pictures(model.label, model.config.preprocess.size)
    image_ND, whole_ND = kept_rows(model, batches, True), kept_rows(model, batches, False)
    text_ND, index_N = texts(model, [sample.captions[0] for sample in samples]), torch.arange(len(samples))
    found = {"nearness to the whole row": Values.of(F.cosine_similarity(image_ND, whole_ND).double())}
    for name, rows, columns in (("image to text", image_ND, text_ND), ("text to image", text_ND, image_ND)):
        rank_N = ranks(rows, columns, index_N, index_N)
        found[f"{name} recall@1"] = Values.of((rank_N < 1).double())
        found[f"{name} reciprocal rank"] = Values.of(1.0 / (1.0 + rank_N.double()))
    return {f"{model.label}: {name}": values for name, values in found.items()}
