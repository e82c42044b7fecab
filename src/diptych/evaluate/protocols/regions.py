"""Region recognition: which of the classes does a given box show?

Paper: Zhong et al., RegionCLIP: Region-based Language-Image Pretraining (arXiv:2112.09106): zero-shot recognition with the
true boxes. Three answers to the same boxes:

    crop:   encode_image(the box cut out, in the middle of a square)                  · class rows
    box:    project(mean of the patch tokens in the box, weighted by their overlap)   · class rows
    whole:  encode_image(the whole picture)                                           · class rows       # what the box adds to

``box_other`` says how often the answer for the box is another thing of the same picture. A sample's ``meta`` has ``boxes`` (in 0…1) and
``regions`` (class names). Pictures are resampled. Shapes: N pictures, R boxes, K classes, P patches, D joint width, E the tower's width.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diptych.core.card import Card
from diptych.core.types import Sample
from diptych.data.decode import decode
from diptych.evaluate import patches
from diptych.evaluate.details import Thumbs
from diptych.evaluate.material import hash_of
from diptych.evaluate.metrics.classification import feature_ranks, predictions, top_k, top_k_chance
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.protocols.choice import asked
from diptych.evaluate.protocols.zero_shot import class_rows

CARD = Card(
    id="regions",
    name="Region recognition",
    family="protocol",
    paper="RegionCLIP: Region-based Language-Image Pretraining (arXiv:2112.09106)",
    where="zero-shot inference with ground-truth boxes",
    code="https://github.com/microsoft/RegionCLIP",
    needs=frozenset({"boxes", "classes"}),
)
ORDER = 22
ASPECT = "Regions"
SUITES = {"full": ("pictobench/regions",)}
ABOUT = {
    "crop_top1": About("Cut out", "the thing in the box is named when the box is cut out"),
    "box_top1": About("From patch tokens", "the thing in the box is named from the tokens in the box"),
    "whole_top1": About("From the whole picture", "the thing in the box is named without looking at the box"),
    "box_other": About("Another thing named", "the tokens in the box name another thing of the picture", better="lower"),
}
SHOWN = 12


def applies(question: Question) -> bool:
    """There are classes, and the samples bring boxes with the names of what they show."""
    return bool(question.classes) and asked(question, "boxes") and asked(question, "regions")


def run(question: Question) -> Outcome:
    """Top-1 of the boxes: cut out, from the patch tokens where the model gives them, and from the whole picture.

    Raises:
        UsageError: a sample's boxes or regions cannot be read, or a region is no class.
    """
    samples, view = question.view.samples(), question.view
    boxes = [patches.boxes_of(sample) for sample in samples]
    label_R = torch.cat([patches.classes_of(sample, question.classes) for sample in samples])
    owner_R = torch.repeat_interleave(torch.arange(len(samples)), torch.tensor([len(box_R4) for box_R4 in boxes]))
    class_KD = class_rows(question.classes, question.templates, question.encode_text)
    what = hash_of([view.data.fingerprint, *(sample.id for sample in samples)])
    crop_RD = view.features.other(f"crops|{what}", len(label_R), lambda: view.model.encode_image(cut(samples, boxes, view.model)))
    chance = top_k_chance(1, len(class_KD))
    answers = {"crop_top1": crop_RD, "whole_top1": question.image_ND[owner_R]}
    if view.has_tokens:
        answers["box_top1"] = pooled(view, samples, boxes)
    hits = {name: top_k(feature_ranks(row_RD, class_KD, label_R), 1) for name, row_RD in answers.items()}
    metrics = [Metric(name, hits[name], owner_R, chance) for name in ("crop_top1", "box_top1", "whole_top1") if name in hits]
    told_R = predictions(answers.get("box_top1", crop_RD), class_KD)
    if view.has_tokens:
        there_NK = torch.zeros(len(samples), len(class_KD)).index_put_((owner_R, label_R), torch.tensor(1.0)).bool()
        other_R = (there_NK[owner_R, told_R] & (told_R != label_R)).double()
        guess = float((there_NK.sum(1)[owner_R] - 1).double().mean()) / len(class_KD)
        metrics.append(Metric("box_other", other_R, owner_R, guess, hits=False))
    show = {"told_R": told_R, "label_R": label_R, "owner_R": owner_R, "classes": question.classes}
    return Outcome(CARD.id, tuple(metrics), torch.arange(len(samples)), show)


def cut(samples: Sequence[Sample], boxes: Sequence[Tensor], model: Any) -> list[Sample]:
    """A sample for each box: what lies in it, in the middle of a square of the model's fill colour (white where it names none)."""
    fill = tuple(getattr(getattr(model.config, "preprocess", None), "fill", (255, 255, 255)))
    found = []
    for sample, box_R4 in zip(samples, boxes, strict=True):
        image_HW3 = decode(sample.image)
        height, width = image_HW3.shape[:2]
        for number, (left, top, right, bottom) in enumerate((box_R4 * torch.tensor([width, height, width, height])).tolist()):
            x, y = int(left + 1e-6), int(top + 1e-6)
            part = image_HW3[y : max(y + 1, int(np.ceil(bottom - 1e-6))), x : max(x + 1, int(np.ceil(right - 1e-6)))]
            side = max(part.shape[:2])
            square = np.full((side, side, 3), fill, np.uint8)
            y, x = (side - part.shape[0]) // 2, (side - part.shape[1]) // 2
            square[y : y + part.shape[0], x : x + part.shape[1]] = part
            file = io.BytesIO()
            Image.fromarray(square).save(file, "PNG", compress_level=1)
            found.append(Sample(f"{sample.id}-{number}", file.getvalue()))
    return found


def pooled(view: Any, samples: Sequence[Sample], boxes: Sequence[Tensor]) -> Tensor:
    """Unit rows ``box_RD``: the mean of the patch tokens in each box, weighted by how much of the patch lies in it, projected."""
    token_parts, at = [], 0
    for token_BPE in view.tokens(list(samples)):
        side = patches.side_of(token_BPE.shape[1], view.model.config.name)
        for token_PE in token_BPE:
            weight_RP = patches.cover(boxes[at], side).float()
            token_parts.append(weight_RP @ token_PE / weight_RP.sum(1, keepdim=True))
            at += 1
    return patches.rows(view.model, torch.cat(token_parts))


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """Pictures whose boxes are named wrongly."""
    told_R, label_R, owner_R, classes = (outcome.show[key] for key in ("told_R", "label_R", "owner_R", "classes"))
    wrong = (told_R != label_R).nonzero()[:, 0]
    chosen = wrong[torch.linspace(0, max(len(wrong) - 1, 0), min(len(wrong), SHOWN)).long()].tolist()
    items = [
        {"picture": thumbs.name(int(owner_R[r])), "text": f"box of: {classes[int(label_R[r])]}", "answer": classes[int(told_R[r])]}
        for r in chosen
    ]
    return {"figures": [{"kind": "pictures", "title": "Boxes that were named wrongly", "items": items}] if items else []}
