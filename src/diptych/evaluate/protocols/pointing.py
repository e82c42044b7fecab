"""Where is it? Patch tokens against the names of classes, nothing learned: the pointing game and segmentation in patches.

Papers: Zhang et al., Top-down Neural Attention by Excitation Backprop (arXiv:1608.00507), section 4.1 (pointing game: the highest point of
a class's map lies in its box); Zhou, Loy and Dai, Extract Free Dense Labels from CLIP (arXiv:2112.01071), MaskCLIP (patch tokens,
projected into the joint space, against class rows).

    map[k, p] = project(token[p]) · class row[k]
    pointing  = mean over things of  centre of argmax_p map[k, p] in the thing's box
    miou      = mean IoU of argmax_k map[k, p], with a row for the ground, against what most of each patch shows
    miou_things, patch_top1: only patches of things, only the classes

A sample's ``meta`` has ``boxes``, ``regions`` and ``masks`` (COCO's uncompressed run lengths). Of a patch that ground and things share
evenly the ground wins. Pictures are resampled. Shapes: N pictures, R things, P patches, K classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.core.types import Sample
from diptych.evaluate import patches
from diptych.evaluate.details import Thumbs
from diptych.evaluate.metrics.localisation import confusions, guessed_iou, mean_iou
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.protocols.choice import asked
from diptych.evaluate.protocols.zero_shot import class_rows

CARD = Card(
    id="pointing",
    name="Pointing and patch segmentation",
    family="protocol",
    paper="Top-down Neural Attention by Excitation Backprop (arXiv:1608.00507)",
    where="section 4.1",
    needs=frozenset({"masks", "classes", "patch tokens"}),
)
ORDER = 23
ASPECT = "Regions"
SUITES = {"full": ("pictobench/regions",)}
ABOUT = {
    "pointing": About("Pointing game", "the patch most like a thing's name lies on the thing"),
    "miou": About("mIoU of patches", "patches named as what they show, the ground being one of the names"),
    "miou_things": About("mIoU on things", "patches of things named as what they show"),
    "patch_top1": About("Patches named", "a patch of a thing is named as the thing"),
}
GROUND = ("a plain background", "a white background", "nothing")


def applies(question: Question) -> bool:
    """There are classes, the model gives patch tokens, and the samples bring masks."""
    return bool(question.classes) and asked(question, "masks") and asked(question, "boxes") and question.view.has_tokens


def run(question: Question) -> Outcome:
    """Pointing accuracy, mIoU with and without the ground, and top-1 of the patches of things.

    Raises:
        UsageError: the model gives no square grid of tokens, or a sample's boxes, masks or regions cannot be read.
    """
    samples, model = question.view.samples(), question.view.model
    class_KD = class_rows(question.classes, question.templates, question.encode_text)
    row_CD = torch.cat([torch.nn.functional.normalize(question.encode_text(GROUND).mean(0, keepdim=True), dim=1), class_KD])
    map_NPC = torch.cat([patches.rows(model, token_BPE) @ row_CD.T for token_BPE in question.view.tokens()])
    side = patches.side_of(map_NPC.shape[1], model.config.name)
    true_NP = torch.stack([truth(sample, question.classes, side) for sample in samples])
    told_NP, kind_NP = map_NPC.argmax(2), map_NPC[:, :, 1:].argmax(2)
    thing_NP = true_NP - 1
    hits, owners, guesses = [], [], []
    for number, sample in enumerate(samples):
        on_RP = centres_in(patches.boxes_of(sample), side)
        best_R = map_NPC[number, :, 1 + patches.classes_of(sample, question.classes)].argmax(0)
        hits.append(on_RP[torch.arange(len(best_R)), best_R].double())
        guesses.append(on_RP.double().mean(1))
        owners.append(torch.full((len(best_R),), number))
    classes = len(class_KD)
    picture_M = torch.arange(len(samples))[:, None].expand_as(thing_NP)[thing_NP >= 0]
    hit_M = (kind_NP == thing_NP)[thing_NP >= 0].double()
    metrics = (
        Metric("pointing", torch.cat(hits), torch.cat(owners), float(torch.cat(guesses).mean())),
        Metric("miou", confusions(told_NP, true_NP, classes + 1), None, guessed_iou(true_NP, classes + 1), False, mean_iou),
        Metric("miou_things", confusions(kind_NP, thing_NP, classes), None, guessed_iou(thing_NP, classes), False, mean_iou),
        Metric("patch_top1", hit_M, picture_M, 1 / classes),
    )
    return Outcome(CARD.id, metrics, torch.arange(len(samples)), {"told_NP": told_NP, "true_NP": true_NP, "classes": question.classes})


def truth(sample: Sample, classes: tuple[str, ...], side: int) -> Tensor:
    """int64 ``true_P``: 0 where most of a patch is ground, 1 + class where a thing has more of it than the ground and any other thing.

    Raises:
        UsageError: there are not as many masks as regions, or their sizes differ.
    """
    masks = [patches.mask_of(sample, told) for told in sample.meta.get("masks") or ()]
    label_R = patches.classes_of(sample, classes)
    if len(masks) != len(label_R) or len({mask.shape for mask in masks}) != 1:
        why = f"it has {len(masks)} masks for {len(label_R)} regions, or masks of different sizes"
        raise UsageError(f"sample {sample.id}", why, "Give one mask a region, all of the picture's size")
    label_HW = np.zeros(masks[0].shape, np.int64)
    for number, mask_HW in enumerate(masks, start=1):
        label_HW[mask_HW] = number
    most_P = torch.from_numpy(patches.counts(label_HW, side, len(masks) + 1).argmax(1))
    return torch.cat([torch.zeros(1, dtype=torch.int64), 1 + label_R])[most_P]


def centres_in(box_R4: Tensor, side: int) -> Tensor:
    """bool ``(R, P)``: the middle of the patch lies in the box."""
    middle_S = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    x_P, y_P = middle_S.repeat(side), middle_S.repeat_interleave(side)
    left_R1, top_R1, right_R1, bottom_R1 = box_R4.double()[:, :, None].unbind(1)
    return (x_P >= left_R1) & (x_P < right_R1) & (y_P >= top_R1) & (y_P < bottom_R1)


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """What patches of each class are named."""
    names = ["ground", *outcome.show["classes"]]
    count_CC = confusions(outcome.show["told_NP"], outcome.show["true_NP"], len(names)).sum(0)
    share_CC = count_CC / count_CC.sum(1, keepdim=True).clamp_min(1)
    figure = {"kind": "heat", "title": "Patches: what they show (rows) and how they are named (columns)", "share": True}
    return {"figures": [figure | {"rows": names, "columns": names, "values": share_CC.tolist()}] if len(names) <= 64 else []}
