"""What methods at test time are measured on: a stream of drawings in unseen styles, each damaged by one of the 15 common corruptions.

The classes are concepts that the embedded sets name; a draw orders the pictures, and cuts the stream to ``most``, and damages them at
severity 3, corruptions by turns. No picture is labelled. Arms of one draw see the same pixels. Shapes: N pictures, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from arms import Arm
from common import Values
from torch import Tensor
from worlds import TEMPLATES, Case, World, as_material, features

from diptych.core import registry
from diptych.core.rng import generator
from diptych.engine.fewshot import make
from diptych.evaluate.corrupt.common import COMMON, corrupt
from diptych.evaluate.material import material
from diptych.recipes.adapt import named

SEVERITY = 3


def damaged(model: str = "mini", classes: int = 100) -> World:
    """Drawings of ``classes`` concepts drawn once from ``pictograms/zero-shot``."""
    data = material("pictograms/zero-shot")
    chosen = torch.randperm(len(data.classes), generator=generator(0, "stream classes"))[:classes].tolist()
    new = {old: i for i, old in enumerate(chosen)}
    names = [data.classes[old] for old in chosen]
    source = [type(sample)(sample.id, sample.image, sample.captions, new[sample.label], sample.concept, sample.meta)
              for sample in data.source if sample.label in new]  # fmt: skip
    made = [as_material(f"stream/{role}", some, names) for role, some in (("none", []), ("test", source))]
    about = (
        f"{model} on a stream of drawings of {classes} concepts in unseen styles, each with one of 15 corruptions at severity {SEVERITY}"
    )
    return World("stream", features(model), made[0], made[1], about)


@dataclass(frozen=True, slots=True)
class Stream:
    """One draw: uint8 pictures at the model's size in their order, labels and resampling units."""

    image_NCHW: Tensor
    label_N: Tensor
    unit_N: Tensor


_kept: dict[tuple[str, str, int, int], Stream] = {}


def stream(case: Case, most: int) -> Stream:
    """The draw's stream of at most ``most`` pictures."""
    key = (case.world.about, case.world.tested.fingerprint, case.seed, most)
    if key not in _kept:
        _kept[key] = _drawn(case, most)
    return _kept[key]


def _drawn(case: Case, most: int) -> Stream:
    draw = generator(case.seed, "stream")
    index_N = torch.randperm(len(case.label_N), generator=draw)[:most]
    image_NCHW = case.pixels(index_N)
    names = list(COMMON)
    for turn, name in enumerate(names):
        mine = torch.tensor(range(turn, len(index_N), len(names)))
        if len(mine):
            image_NCHW[mine] = corrupt(image_NCHW[mine], name=name, severity=SEVERITY, generator=draw)
    return Stream(image_NCHW, case.label_N[index_N], case.unit_N[index_N])


def answered(most: int, logits: Callable[[Case, Tensor], Tensor]) -> Arm:
    """Top-1 of ``logits(case, image_NCHW)`` on the stream."""

    def run(case: Case) -> Mapping[str, Values]:
        given = stream(case, most)
        return {"top-1": Values((logits(case, given.image_NCHW).argmax(1) == given.label_N).double(), given.unit_N)}

    return run


def words(most: int, templates: tuple[str, ...] = TEMPLATES, tokens: Any = None) -> Arm:
    """Zero-shot with fixed prompts; ``tokens`` is a token method of the image tower."""

    def logits(case: Case, image_NCHW: Tensor) -> Tensor:
        model = case.work.model
        classifier = model.classifier(case.work.shots.classes, templates)
        return model.encode_image(image_NCHW, tokens=tokens) @ classifier.rows_KD.T

    return answered(most, logits)


def rule(identity: str, most: int, **options: Any) -> Arm:
    """A method's rule on the stream, in its order."""

    def logits(case: Case, image_NCHW: Tensor) -> Tensor:
        model = named(case.work, make(registry.find(identity, "adapt"), case.work, options), identity)
        answer = model.rule.answer(model, case.work.shots.classes)
        rows = model.rule.config.reads == "rows"
        return torch.cat([answer.logits(model.encode_image(part) if rows else part) for part in image_NCHW.split(64)])

    return answered(most, logits)


def in_order(identity: str, **options: Any) -> Arm:
    """A method's rule on rows of all test pictures as they are, in an order that the draw gives."""

    def run(case: Case) -> Mapping[str, Values]:
        model = named(case.work, make(registry.find(identity, "adapt"), case.work, options), identity)
        order_N = torch.randperm(len(case.label_N), generator=generator(case.seed, "order"))
        best_N = model.rule.answer(model, case.work.shots.classes).logits(case.image_ND[order_N]).argmax(1)
        return {"top-1": Values((best_N == case.label_N[order_N]).double()[order_N.argsort()], case.unit_N)}

    return run
