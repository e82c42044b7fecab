"""Holistic robustness: visual factors, calibration under shift, unknown things, shape against texture, in one place.

Paper: Tu, Deng and Gedeon, Toward a Holistic Evaluation of Robustness in CLIP Models (arXiv:2410.01534).

- Each visual factor (pose, size, light, colour, ground, cover) is changed alone and the pictures are named again. The paper's photographs
  differ in more than the one factor that annotators named; here nothing else differs.
- Calibration error (15 bins of equal mass) of the pictures as they are and over all factors.
- AUROC of the maximum concept matching score, where the set has an unknown companion.
- Shape bias: outlines filled with another picture's texture. Of the two names, which is nearer? 1.0: always the outline's; guessing 0.5.
  (Geirhos et al. count answers among 16 kinds; with many names a choice of two leaves no answer out.)

Run it with the parent as baseline to see what fine-tuning does to each. Shapes: M pictures, S factors, K classes, D joint width.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.data.images import load_image
from diptych.evaluate import fitting, shift
from diptych.evaluate.corrupt.factors import FACTORS, cue_conflict
from diptych.evaluate.details import Thumbs
from diptych.evaluate.material import hash_of
from diptych.evaluate.metrics import calibration, classification, ood
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.protocols import unknowns

CARD = Card(
    id="clip-holistic-robustness",
    name="Holistic robustness",
    family="protocol",
    paper="Toward a Holistic Evaluation of Robustness in CLIP Models (arXiv:2410.01534)",
    where="visual factors, shape bias, out-of-distribution detection, predictive uncertainty",
    needs=frozenset({"labels", "a model with pixels and a scale"}),
    claim="The encoder's architecture drives robustness; fine-tuning lowers CLIP's shape bias",
)
ORDER = 37
ASPECT = "Robustness"
SUITES = {"full": ("pictograms/zero-shot",)}
ABOUT = {
    "factor_top1": About("Top-1 over visual factors", "the right name comes first, averaged over the factors"),
    "factor_drop": About("Lost over visual factors", "top-1 of the pictures as they are, less that of the changed ones", "lower"),
    "shape_bias": About("Shape bias", "an outline with another's texture is taken for the outline's thing", "neither"),
    "clean_ece": About("Calibration error as they are", "how far confidence and accuracy lie apart", "lower"),
    "factor_ece": About("Calibration error over factors", "the same, of all changed pictures together", "lower"),
    "unknown_auroc": About("AUROC against unknown things", "a known picture scores above an unknown one (MCM)"),
}
VERSION, FEWEST, GROUND = 1, 16, (90, 140, 90)


def applies(question: Question) -> bool:
    """There are classes and labels, and a model with a scale that says how it reads pixels."""
    return shift.applies(question) and hasattr(question.view.model, "scale")


def run(question: Question) -> Outcome:
    """All of it; the shape bias where enough pictures have an outline, the AUROC where there are unknown pictures."""
    drawn, view = shift.draw(question), question.view
    rows = {name: view.changed(f"factor|{VERSION}|{name}", change, drawn.index_M) for name, change in FACTORS.items()}
    rows["ground"] = other_ground(question, drawn)
    label_M, unit_M, classes = drawn.table.label_N, drawn.table.group_N, len(drawn.class_KD)
    hit_MS = torch.stack([drawn.hits(image_MD) for image_MD in rows.values()], 1)
    clean_M, chance = drawn.hits(drawn.image_MD), classification.top_k_chance(1, classes)
    scale = fitting.scale(view.model)

    def sure(image_MD: Tensor) -> Tensor:
        return calibration.confidence(scale * image_MD @ drawn.class_KD.T, label_M)

    sure_MS2 = torch.stack([sure(image_MD) for image_MD in rows.values()], 1)
    metrics = [
        Metric("factor_top1", hit_MS.mean(1), unit_M, chance, hits=False),
        Metric("factor_drop", clean_M - hit_MS.mean(1), unit_M, None, hits=False),
    ]
    outlines = shape_or_texture(question, drawn)
    metrics += [] if outlines is None else [Metric("shape_bias", *outlines, 0.5, hits=False)]
    metrics += [
        Metric("clean_ece", sure(drawn.image_MD), unit_M, None, hits=False, of=calibration.ece),
        Metric("factor_ece", sure_MS2, unit_M, None, hits=False, of=lambda value: calibration.ece(value.flatten(0, 1))),
    ]
    metrics += [unknown(question)] if unknowns.applies(question) else []
    metrics += [Metric(f"factor_top1[{name}]", hit_MS[:, s], unit_M, chance) for s, name in enumerate(rows)]
    show = {"clean": float(clean_M.mean()), "factors": dict(zip(rows, hit_MS.mean(0).tolist(), strict=True)), "chance": chance}
    return Outcome(CARD.id, tuple(metrics), drawn.index_M, show)


def other_ground(question: Question, drawn: shift.Drawn) -> Tensor:
    """Rows of the pictures on a green ground where they are transparent; pictures without transparency stay as they are."""
    view = question.view
    read = replace(view.model.config.preprocess, fill=GROUND)

    def compute() -> Tensor:
        image = torch.stack([load_image(sample.image, read) for sample in view.samples(drawn.index_M)])
        return view.model.encode_image(image, batch_size=view.features.batch_size)

    return view.features.other(f"ground|{_key(question, drawn.index_M)}", len(drawn.index_M), compute)


def shape_or_texture(question: Question, drawn: shift.Drawn) -> tuple[Tensor, Tensor] | None:
    """1.0 where the outline's name is nearer than the texture's (float64), and the outline's concept; None for too few outlines.

    An outline is a picture of which 5 to 95 % is opaque. Each gives the texture of the next one, in a random order, of another class. A
    tie counts half.
    """
    view = question.view
    read = partial(load_image, preprocess=view.model.config.preprocess, keep_alpha=True)
    loaded = [read(sample.image) for sample in view.samples(drawn.index_M)]
    clear = [i for i, one in enumerate(loaded) if len(one) == 4 and 0.05 < float(one[3].float().mean()) / 255 < 0.95]
    order = torch.randperm(len(clear), generator=view.generator("outlines")).tolist()
    label = drawn.table.label_N
    pairs = [(clear[a], clear[b]) for a, b in zip(order, order[1:] + order[:1], strict=True) if label[clear[a]] != label[clear[b]]]
    if len(pairs) < FEWEST:
        return None
    shape_P, texture_P = torch.tensor(pairs).unbind(1)

    def compute() -> Tensor:
        shape, texture = (torch.stack([loaded[i] for i in chosen.tolist()]) for chosen in (shape_P, texture_P))
        made = cue_conflict(shape, texture, view.model.config.preprocess.fill)
        return view.model.encode_image(made, batch_size=view.features.batch_size)

    image_PD = view.features.other(f"outlines|{_key(question, drawn.index_M)}", len(pairs), compute)
    near = [(image_PD.double() * drawn.class_KD[label[chosen]].double()).sum(1) for chosen in (shape_P, texture_P)]
    return ((near[0] > near[1]).double() + (near[0] >= near[1]).double()) / 2, drawn.table.group_N[shape_P]


def unknown(question: Question) -> Metric:
    """AUROC of the maximum concept matching score, known against unknown pictures."""
    two = unknowns.mixed(question)
    score_M = ood.scores(two.similarities(), fitting.scale(question.view.model))["mcm"]
    return Metric("unknown_auroc", torch.stack([score_M, two.unknown()], 1), two.units(), 0.5, hits=False, of=ood.auroc)


def _key(question: Question, index_M: Tensor) -> str:
    view = question.view
    places = view.index_N[index_M].tolist()
    return hash_of([view.data.fingerprint, str(view.seed), str(view.model.config.preprocess), str(VERSION), *map(str, places)])


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """Top-1 of each factor."""
    show = outcome.show
    rows = [{"name": name, "value": value, "chance": show["chance"]} for name, value in show["factors"].items()]
    rows = [{"name": "as they are", "value": show["clean"], "chance": show["chance"]}, *rows]
    told = f"Top-1 of {len(outcome.index_N)} pictures, each changed in one respect alone."
    return {"figures": [{"kind": "bars", "title": "Visual factors", "about": told, "share": True, "rows": rows}]}
