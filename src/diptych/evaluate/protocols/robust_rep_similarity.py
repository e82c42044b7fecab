"""Do a picture's layers stay what they were when the picture is perturbed, and are the layers different from one another?

Paper: Cianfarani et al., Understanding Robust Learning through the Lens of Representation Similarities (arXiv:2206.09868), figure 2:
similarity across the layers of one network and of two; elsewhere there, of clean and perturbed pictures.

Every layer of the image tower gives the mean of its tokens (:mod:`diptych.evaluate.similarity`). Layers are compared by debiased CKA
(:mod:`diptych.evaluate.metrics.cka`): each with each on clean pictures, and each with itself on the same pictures with Gaussian noise and
after an attack. The attack takes :data:`STEPS` steps of the sign of the gradient that drives the unit row away from where it was, within
:data:`RADIUS` of every pixel (projected gradient ascent, arXiv:1706.06083, with the rows' distance as loss, so it needs no labels).
Beside a baseline, its layers are compared with those of the model, on the same clean pictures.
Shapes: N pictures, A layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.evaluate.details import Thumbs
from diptych.evaluate.metrics import cka
from diptych.evaluate.metrics.jackknife import grouped
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.similarity import ROWS, alike, gram_of, image_layers, text_layers

CARD = Card(
    id="robust-rep-similarity",
    name="Similarity of robust representations",
    family="protocol",
    paper="Understanding Robust Learning through the Lens of Representation Similarities (arXiv:2206.09868)",
    where="figure 2",
    needs=frozenset({"image.tokens"}),
    claim="robustly trained networks have layers that are more alike, and representations that a perturbation changes less",
)
ORDER = 63
ASPECT = "Representation"
SUITES = {"full": ("pictograms/retrieval",)}
ABOUT = {
    "attacked_cka": About("CKA with the attacked picture", "likeness of the rows before and after; 1 unchanged", "higher", share=False),
    "noisy_cka": About("CKA with the noisy picture", "likeness of the rows before and after; 1 unchanged", "higher", share=False),
    "cross_layer_cka": About("CKA across layers", "mean likeness of two different layers; 1: all do the same", "neither", share=False),
    "baseline_cka": About("CKA with the baseline", "likeness of both models' rows of the same pictures; 1: alike", "neither", share=False),
}
LIMIT, ATTACKED = 192, 64
NOISE, RADIUS, STEPS = 0.08, 4 / 255, 3
BATCH = 16  # with gradients down to the pixels


def applies(question: Question) -> bool:
    """The model's tower can be looked into, and there are pictures enough."""
    return question.more is not None and question.view.has_tokens and len(question.table) >= 8


def run(question: Question) -> Outcome:
    """CKA of clean against noisy and attacked rows, and across layers; intervals leave out concepts where the set names them."""
    view = question.view
    index_N = torch.randperm(len(question.table), generator=view.generator("cka"))[:LIMIT].sort().values
    unit_N, model = question.table.group_N[index_N], view.model
    clean = view.pixels(index_N).float() / 255
    noise = torch.randn(clean.shape, generator=view.generator("cka", "noise"))
    few = slice(0, ATTACKED)
    layers = {
        "clean": image_layers(model, clean),
        "noisy": image_layers(model, (clean + NOISE * noise).clamp(0, 1)),
        "attacked": image_layers(model, attack(model, clean[few], view.generator("cka", "attack"))),
    }
    kernels = {name: gram_of(rows) for name, rows in layers.items()}
    few_clean = gram_of({name: rows[few] for name, rows in layers["clean"].items()})
    pairs = {"attacked": (few_clean, kernels["attacked"]), "noisy": (kernels["clean"], kernels["noisy"])}
    metrics = []
    for name, (before, after) in pairs.items():

        def likeness(index: Tensor, before: Tensor = before[ROWS], after: Tensor = after[ROWS]) -> float:
            return alike(before, after, index)

        metrics.append(_given(f"{name}_cka", likeness, unit_N[: len(before[ROWS])], view.generator("cka", name)))
    metrics.append(_given("cross_layer_cka", lambda index: across(kernels["clean"], index), unit_N, view.generator("cka", "across")))
    show = {
        "layers": tuple(layers["clean"]),
        "clean": kernels["clean"],
        "units": (unit_N, view.generator("cka", "baseline")),
        "clean_AA": cka.of_grams(list(kernels["clean"].values())),
        "kept": {
            name: [alike(before[k], after[k], torch.arange(len(before[k]))) for k in before] for name, (before, after) in pairs.items()
        },
    }
    return Outcome(CARD.id, tuple(metrics), index_N, show | _words(question, index_N, kernels["clean"]))


def beside(ours: Outcome, theirs: Outcome) -> Outcome:
    """``ours`` with the likeness of both models' unit rows, and of each layer with each of the other's."""
    left, right = ours.show["clean"], theirs.show["clean"]
    unit_N, stream = ours.show["units"]
    found = _given("baseline_cka", lambda index: alike(left[ROWS], right[ROWS], index), unit_N, stream)
    layers = {"their_layers": tuple(right), "beside_AB": cka.of_grams(list(left.values()), list(right.values()))}
    return replace(ours, metrics=(*ours.metrics, found), show={**ours.show, **layers})


def _given(name: str, statistic: Any, unit_N: Tensor, stream: torch.Generator) -> Metric:
    found = grouped(statistic, len(unit_N), stream, unit_N=unit_N, bounds=(-1.0, 1.0))
    return Metric(name, torch.zeros(0, dtype=torch.float64), unit_N, None, hits=False, given=found)


def across(kernels: Mapping[str, Tensor], index: Tensor) -> float:
    """Mean debiased CKA of two different layers of the examples at ``index``; the unit rows do not count as a layer."""
    chosen = [kernel[index][:, index] for name, kernel in kernels.items() if name != ROWS]
    if len(chosen) < 2:
        return 1.0
    all_AA = cka.of_grams(chosen)
    return float((all_AA.sum() - all_AA.diag().sum()) / (len(chosen) * (len(chosen) - 1)))


def attack(model: Any, image_NCHW: Tensor, stream: torch.Generator, batch: int = BATCH) -> Tensor:
    """Pictures (float 0–1) whose unit rows went as far away as :data:`STEPS` steps find, no level further than :data:`RADIUS`."""
    from diptych.towers.encode import evaluating

    parts = []
    start = (torch.rand(image_NCHW.shape, generator=stream) * 2 - 1) * RADIUS
    with evaluating(model), torch.enable_grad():
        for image, shift in zip(image_NCHW.split(batch), start.split(batch), strict=True):
            image, shift = image.to(model.device), shift.to(model.device)
            before_BD = model.image_features(image).detach()
            for _ in range(STEPS):
                moved = (image + shift).clamp(0, 1).requires_grad_()
                likeness = (model.image_features(moved) * before_BD).sum()
                (slope,) = torch.autograd.grad(likeness, moved)
                shift = (shift - RADIUS / 2 * slope.sign()).clamp(-RADIUS, RADIUS)
            parts.append((image + shift).clamp(0, 1).detach().cpu())
    return torch.cat(parts)


def _words(question: Question, index_N: Tensor, kernels: Mapping[str, Tensor]) -> dict[str, Any]:
    """CKA between the two towers' layers, on each picture's first caption; nothing where captions or a tokenizer are missing."""
    captions = [question.table.captions[i] for i in index_N.tolist()]
    if not all(captions) or getattr(question.view.model, "tokenizer", None) is None:
        return {}
    layers = text_layers(question.view.model, [each[0] for each in captions])
    return {"text_layers": tuple(layers), "both_AB": cka.of_grams(list(kernels.values()), list(gram_of(layers).values()))}


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """Heat maps of layer against layer (and of pictures' against words' layers), and what each layer keeps under perturbation."""
    show = outcome.show
    names = list(show["layers"])
    figures = [
        {
            "kind": "heat",
            "title": "Layers of the image tower, debiased CKA",
            "rows": names,
            "columns": names,
            "values": _rounded(show["clean_AA"]),
            "share": False,
        },
        {
            "kind": "lines",
            "title": "What each layer keeps of the picture before it was perturbed",
            "series": [
                {"name": name, "points": [[i, round(value, 4)] for i, value in enumerate(kept)]} for name, kept in show["kept"].items()
            ],
            "x": f"layer, from {names[0]} to {names[-1]}",
            "y": "debiased CKA",
            "share": False,
        },
    ]
    for values, columns, whose in (("both_AB", "text_layers", "the text tower"), ("beside_AB", "their_layers", "the baseline")):
        if values in show:
            title = f"Layers of the image tower against those of {whose}, debiased CKA"
            figure = {"kind": "heat", "title": title, "rows": names, "columns": list(show[columns]), "share": False}
            figures.append(figure | {"values": _rounded(show[values])})
    return {"figures": figures}


def _rounded(values_AB: Tensor) -> list[list[float]]:
    return [[round(value, 4) for value in row] for row in values_AB.tolist()]
