"""Resize and normalisation: what is lost when pictures are not prepared as in training.

Paper: Corley et al., Revisiting pre-trained remote sensing model benchmarks: resizing and normalization matters (arXiv:2305.13456).
There k-nearest neighbours on frozen features of small satellite patches gain much when the patches are enlarged to the input
size of pretraining and normalised as in pretraining.

Each departure from the model's own preprocessing is applied to all pictures, of the training split too, so the neighbours are of one kind
with what they are asked (k = 5, as in the paper); zero-shot naming is measured beside it, where the words stay as they are.

    for departure in (no normalisation, another mean and deviation, levels 0–255, another resize, another interpolation, small in a frame):
        loss = accuracy prepared as in training − accuracy under the departure
    small pictures (half the side): accuracy enlarged to the input − accuracy at native size in a frame

Shapes: M test pictures, N training pictures, D joint width, S departures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.core.types import Preprocess
from diptych.data.transforms import FILTERS, RESIZES
from diptych.evaluate import fitting, shift
from diptych.evaluate.corrupt.geometry import inset, resolution
from diptych.evaluate.details import Thumbs
from diptych.evaluate.material import Material, hash_of
from diptych.evaluate.metrics import classification, neighbours
from diptych.evaluate.outcome import About, Metric, Outcome, Question

CARD = Card(
    id="rs-resize-norm",
    name="Resize and normalisation",
    family="protocol",
    paper="Revisiting pre-trained remote sensing model benchmarks: resizing and normalization matters (arXiv:2305.13456)",
    where="k-nearest neighbours with and without resizing and normalisation",
    code="https://github.com/isaaccorley/resize-is-all-you-need",
    needs=frozenset({"labels", "a train split", "a model with pixels"}),
    claim="matching size and normalisation of pretraining raises kNN accuracy",
    published="+32.28 points on So2Sat (random split), +11.16 on EuroSAT",
)
ORDER = 36
ASPECT = "Robustness"
SUITES = {"full": ("study/kinds",)}
ABOUT = {
    "preprocess_worst_loss": About(
        "Lost under the worst preprocessing", "kNN top-1, prepared as in training less the worst departure", "lower"
    ),
    "preprocess_knn_top1": About("kNN, prepared as in training", "the right name comes first"),
    "preprocess_knn_loss": About("Lost (kNN)", "top-1 prepared as in training, less that under this departure", "lower"),
    "preprocess_zero_shot_loss": About("Lost (zero-shot)", "top-1 prepared as in training, less that under this departure", "lower"),
    "small_enlarged_gain": About("Won by enlarging small pictures", "kNN top-1 enlarged to the input, less that at native size"),
}
PICTURES, GALLERY, K, TEMPERATURE, SMALL, VERSION = 256, 768, 5, 0.07, 0.5, 1
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FRAMED, ENLARGED = "half the size, framed", "half the size, enlarged"


@dataclass(frozen=True, slots=True)
class Departure:
    """One way to prepare pictures: how they are read, changed (uint8 to uint8), and normalised ((x − mean) / std of values 0–1)."""

    name: str
    read: Preprocess
    mean: tuple[float, ...]
    std: tuple[float, ...]
    change: Callable[[Tensor], Tensor] | None = None


def departures(own: Preprocess) -> Iterator[Departure]:
    """The model's own preparation first, then each departure from it; what is no departure for this model is left out."""
    yield Departure("as trained", own, own.mean, own.std)
    for name, (mean, std) in {
        "no normalisation": ((0.0,) * 3, (1.0,) * 3),
        "levels 0–255": ((0.0,) * 3, (1 / 255,) * 3),
        "ImageNet's mean and deviation": IMAGENET,
    }.items():
        if (mean, std) != (own.mean, own.std):
            yield Departure(name, own, mean, std)
    for resize in RESIZES:
        if resize != own.resize and "floor" not in resize:
            yield Departure(f"resize {resize}", replace(own, resize=resize), own.mean, own.std)
    for interpolation in FILTERS:
        if interpolation != own.interpolation:
            yield Departure(interpolation, replace(own, interpolation=interpolation), own.mean, own.std)
    yield Departure(FRAMED, own, own.mean, own.std, partial(inset, share=SMALL, fill=own.fill))
    yield Departure(ENLARGED, own, own.mean, own.std, partial(resolution, share=SMALL))


def applies(question: Question) -> bool:
    """There are classes, labels, a train split, and a model that says how it reads pixels and can leave them as they are."""
    return fitting.can_fit(question) and shift.applies(question) and hasattr(question.view.model, "image_features")


def encode(question: Question, data: Material, index_M: Tensor, departure: Departure) -> Tensor:
    """Unit rows of the pictures of ``data`` at ``index_M``, computed once."""
    from diptych.towers.encode import evaluating, pixels

    view, chosen = question.view, index_M.tolist()

    def compute() -> Tensor:
        model, parts = view.model, []
        mean, std = (torch.tensor(one, device=model.device)[:, None, None] for one in (departure.mean, departure.std))
        with evaluating(model):
            for start in range(0, len(chosen), view.features.batch_size):
                part = [pixels(data.source[i], departure.read) for i in chosen[start : start + view.features.batch_size]]
                image = torch.stack(part).to(model.device)
                image = image if departure.change is None else departure.change(image)
                parts.append(model.image_features((image.float() / 255 - mean) / std, normalise=False).float().cpu())
        return torch.cat(parts)

    what = hash_of([data.fingerprint, departure.name, str(view.model.config.preprocess), str(VERSION), *map(str, chosen)])
    return view.features.other(f"prepared|{what}", len(chosen), compute)


def gallery(question: Question) -> tuple[Material, Tensor, Tensor]:
    """The train split, which of its pictures are used, and their labels among the question's classes."""
    split = question.view.companion("train")
    known = {name: k for k, name in enumerate(question.classes)}
    label_N = torch.tensor([known.get(split.classes[k], -1) if k >= 0 else -1 for k in split.table.label_N.tolist()])
    index_N = (label_N >= 0).nonzero()[:, 0]
    order = torch.randperm(len(index_N), generator=question.view.generator("preprocess gallery"))[:GALLERY]
    index_N = index_N[order.sort().values]
    return split.material, index_N, label_N[index_N]


def run(question: Question) -> Outcome:
    """The worst loss, kNN prepared as in training, what enlarging wins, and the loss of each departure by kNN and by zero-shot."""
    drawn = shift.draw(question, PICTURES)
    train, train_N, label_N = gallery(question)
    test_M = question.view.index_N[drawn.index_M]
    names, knn, named = [], [], []
    for departure in departures(question.view.model.config.preprocess):
        image_MD, image_ND = encode(question, question.view.data, test_M, departure), encode(question, train, train_N, departure)
        cosine_Mk, at_Mk = neighbours.nearest(image_MD, image_ND, K)
        score_MK = neighbours.votes(cosine_Mk, label_N[at_Mk], len(question.classes), K, TEMPERATURE)
        names.append(departure.name)
        knn.append(classification.top_k(classification.label_ranks(score_MK, drawn.table.label_N), 1))
        named.append(drawn.hits(image_MD))
    knn_MS, named_MS = torch.stack(knn, 1), torch.stack(named, 1)
    unit_M, chance = drawn.table.group_N, classification.top_k_chance(1, len(question.classes))
    lost_MS = knn_MS[:, :1] - knn_MS[:, 1:]
    small_M = knn_MS[:, names.index(ENLARGED)] - knn_MS[:, names.index(FRAMED)]
    metrics = [
        Metric("preprocess_worst_loss", lost_MS, unit_M, None, hits=False, of=worst),
        Metric("preprocess_knn_top1", knn_MS[:, 0], unit_M, chance),
        Metric("small_enlarged_gain", small_M, unit_M, None, hits=False),
    ]
    for s, name in enumerate(names[1:], 1):
        metrics.append(Metric(f"preprocess_knn_loss[{name}]", lost_MS[:, s - 1], unit_M, None, hits=False))
        metrics.append(Metric(f"preprocess_zero_shot_loss[{name}]", named_MS[:, 0] - named_MS[:, s], unit_M, None, hits=False))
    show = {"names": names, "values": torch.stack([knn_MS.mean(0), named_MS.mean(0)], 1), "gallery": len(train_N)}
    return Outcome(CARD.id, tuple(metrics), drawn.index_M, show)


def worst(lost_MS: Tensor) -> float:
    """The largest mean loss."""
    return float(lost_MS.mean(0).max())


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """Accuracy under each preparation."""
    show = outcome.show
    told = f"Top-1 of {len(outcome.index_N)} pictures, neighbours among {show['gallery']}; the first row is the model's own preparation."
    figure = {"kind": "heat", "title": "Prepared otherwise than in training", "about": told, "share": True}
    return {"figures": [figure | {"rows": show["names"], "columns": ["kNN", "zero-shot"], "values": show["values"].tolist()}]}
