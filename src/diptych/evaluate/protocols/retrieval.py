"""Image–text retrieval both ways, with several captions an image.

Paper: Karpathy and Fei-Fei, Deep Visual-Semantic Alignments for Generating Image Descriptions (arXiv:1412.2306), section 4.1 (recall at
1, 5 and 10 both ways); several captions an image counted as in their Flickr30K and COCO protocol.

Text → image: every caption is a query and its own picture the answer. Image → text: every picture is a query, and any of its captions
among the best k is a hit. Where samples name concepts, every picture and caption of the concept is an answer.
Shapes: N pictures, M captions, D embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.data.sources.base import class_caption
from diptych.evaluate.material import Table
from diptych.evaluate.metrics import retrieval as metric
from diptych.evaluate.outcome import Metric, Outcome, Question

CARD = Card(
    id="retrieval",
    name="Image–text retrieval",
    family="protocol",
    paper="Deep Visual-Semantic Alignments for Generating Image Descriptions (arXiv:1412.2306)",
    where="section 4.1",
    needs=frozenset({"captions"}),
)
ORDER = 1

AT = (1, 5, 10)


def flatten(table: Table) -> tuple[list[str], Tensor]:
    """The captions in order, and the picture each belongs to (int64 ``owner_M``).

    Every caption of a picture counts. Where several pictures share a concept and a caption, it is one text and counts once, with the
    first of them; else ten drawings of an apple would put "an apple" into the gallery ten times and fill its first ten places.
    """
    first: dict[tuple[int, str], int] = {}
    pairs = [
        (caption, owner)
        for owner, (captions, group) in enumerate(zip(table.captions, table.group_N.tolist(), strict=True))
        for caption in captions
        if first.setdefault((group, caption), owner) == owner
    ]
    return [caption for caption, _ in pairs], torch.tensor([owner for _, owner in pairs])


def applies(question: Question) -> bool:
    """Some picture has a caption that says more than the name of its class."""
    names = [{name, class_caption(name)} for name in question.classes]
    rows = zip(question.table.captions, question.table.label_N.tolist(), strict=True)
    return any(caption not in (names[label] if 0 <= label < len(names) else ()) for captions, label in rows for caption in captions)


def run(question: Question) -> Outcome:
    """Recall at 1, 5 and 10, text → image and image → text, on the pictures that have captions.

    Intervals resample pictures, or concepts where the set names them.
    """
    index_N = torch.tensor([i for i, captions in enumerate(question.table.captions) if captions])
    table, image_ND = question.table.take(index_N), question.image_ND[index_N]
    texts, owner_M = flatten(table)
    text_MD = question.encode_text(texts)
    group_N, group_M = table.group_N, table.group_N[owner_M]
    to_image_M = metric.ranks(text_MD, image_ND, group_M, group_N)
    to_text_N = metric.ranks(image_ND, text_MD, group_N, group_M)
    answers_M, answers_N = metric.positives_count(group_M, group_N), metric.positives_count(group_N, group_M)
    metrics = []
    for name, rank, unit, gallery, answers in (
        ("text_to_image", to_image_M, group_M, len(image_ND), answers_M),
        ("image_to_text", to_text_N, group_N, len(text_MD), answers_N),
    ):
        metrics += [Metric(f"{name}_r@{k}", metric.recall(rank, k), unit, metric.recall_chance(k, gallery, answers)) for k in AT]
    show = {
        "texts": texts,
        "owner_M": owner_M,
        "text_MD": text_MD,
        "image_ND": image_ND,
        "group_N": group_N,
        "to_image_M": to_image_M,
        "to_text_N": to_text_N,
    }
    return Outcome(CARD.id, tuple(metrics), index_N, show)
