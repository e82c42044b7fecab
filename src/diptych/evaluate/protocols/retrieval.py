"""Image–text retrieval both ways, with several captions an image.

Paper: Karpathy and Fei-Fei, Deep Visual-Semantic Alignments for Generating Image Descriptions (arXiv:1412.2306), section 4.1 (recall at
1, 5 and 10 both ways); several captions an image counted as in their Flickr30K and COCO protocol.

Text → image: every caption is a query and its own picture the answer. Image → text: every picture is a query, and any of its captions
among the best k is a hit. Where samples name concepts, every picture and caption of the concept is an answer.
Shapes: N pictures, M captions, D embedding width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.data.sources.base import class_caption
from diptych.evaluate.details import Thumbs
from diptych.evaluate.material import Table
from diptych.evaluate.metrics import ranked
from diptych.evaluate.metrics import retrieval as metric
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.set_metrics import both_ways, in_front

CARD = Card(
    id="retrieval",
    name="Image–text retrieval",
    family="protocol",
    paper="Deep Visual-Semantic Alignments for Generating Image Descriptions (arXiv:1412.2306)",
    where="section 4.1",
    needs=frozenset({"captions"}),
)
ORDER = 1
ASPECT = "Retrieval"
SUITES = {
    "quick": ("pictograms/retrieval",),
    "full": (
        "pictograms/retrieval",
        *(f"pictograms/retrieval-{language}" for language in ("de", "fr", "es", "ru", "zh", "ja", "ko", "hi")),
    ),
}
ABOUT = {
    **{f"text_to_image_r@{k}": About(f"Text → image, recall at {k}", f"the right picture is among the first {k}") for k in (5, 10)},
    **{f"image_to_text_r@{k}": About(f"Image → text, recall at {k}", f"a right caption is among the first {k}") for k in (5, 10)},
    "text_to_image_r@1": About("Text → image, recall at 1", "the right picture comes first"),
    "image_to_text_r@1": About("Image → text, recall at 1", "a right caption comes first"),
    "text_to_image_mAP": About("Text → image, mean average precision", "where all right pictures stand"),
    "image_to_text_mAP": About("Image → text, mean average precision", "where all right captions stand"),
    "mean_r@1": About("Recall at 1, both ways", "the mean of text → image and image → text"),
}

AT = (1, 5, 10)
EXAMPLES = 6
ANSWERS = 4
LONGEST = 300


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
    """Recall at 1, 5 and 10 and mean average precision, text → image and image → text, on the pictures that have captions.

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
    metrics += both_ways(question.metric, metrics[0], metrics[len(AT)])
    for name, query, gallery, group, other, answers in (
        ("text_to_image", text_MD, image_ND, group_M, group_N, answers_M),
        ("image_to_text", image_ND, text_MD, group_N, group_M, answers_N),
    ):
        value = ranked.average_precision(query, gallery, group, other)
        metrics.append(Metric(f"{name}_mAP", value, group, ranked.chance(len(gallery), answers), hits=False))
    show = {
        "texts": texts,
        "owner_M": owner_M,
        "text_MD": text_MD,
        "image_ND": image_ND,
        "group_N": group_N,
        "to_image_M": to_image_M,
        "to_text_N": to_text_N,
    }
    return Outcome(CARD.id, in_front(metrics, question.metric), index_N, show)


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """Best and worst queries both ways, each with its first answers, the right ones marked."""
    show = outcome.show
    owner_M, group_N = show["owner_M"], show["group_N"]
    group_M, position, texts = group_N[owner_M], outcome.index_N.tolist(), show["texts"]

    first: dict[int, int] = {}
    for m, group in enumerate(group_M.tolist()):
        first.setdefault(group, m)

    def picture(i: int) -> dict[str, Any]:
        return {"picture": thumbs.name(position[i]), "text": _short(texts[first[int(group_N[i])]])}

    def words(m: int) -> dict[str, Any]:
        return {"text": _short(texts[m])}

    def examples(
        query_QD: Tensor, gallery_GD: Tensor, rank_Q: Tensor, group_Q: Tensor, group_G: Tensor, ask: Any, answer: Any
    ) -> dict[str, Any]:
        found = {}
        for kind, chosen in _extremes(query_QD, gallery_GD, rank_Q, group_Q).items():
            score_Qk, index_Qk = metric.best_matches(query_QD[chosen], gallery_GD, ANSWERS)
            found[kind] = [
                {
                    "query": ask(q),
                    "rank": int(rank_Q[q]) + 1,
                    "of": len(gallery_GD),
                    "answers": [
                        answer(g) | {"score": round(s, 4), "right": bool(group_G[g] == group_Q[q])}
                        for s, g in zip(score_k.tolist(), index_k.tolist(), strict=True)
                    ],
                    "wanted": answer(int((group_G == group_Q[q]).nonzero()[0, 0])),
                }
                for q, score_k, index_k in zip(chosen.tolist(), score_Qk, index_Qk, strict=True)
            ]
        return found

    text_MD, image_ND = show["text_MD"], show["image_ND"]
    return {
        "captions": len(texts),
        "text_to_image": examples(text_MD, image_ND, show["to_image_M"], group_M, group_N, words, picture),
        "image_to_text": examples(image_ND, text_MD, show["to_text_N"], group_N, group_M, picture, words),
    }


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _extremes(query_QD: Tensor, gallery_GD: Tensor, rank_Q: Tensor, group_Q: Tensor) -> dict[str, Tensor]:
    """Queries of :data:`EXAMPLES` different groups: the right ones that lead by most, and those whose answer came last."""
    right_R = (rank_Q == 0).nonzero()[:, 0]
    right_R = right_R[torch.linspace(0, max(len(right_R) - 1, 0), min(len(right_R), 2000)).long()] if len(right_R) else right_R
    if len(right_R) and len(gallery_GD) > 1:
        top_R2, _ = metric.best_matches(query_QD[right_R], gallery_GD, 2)
        right_R = right_R[(top_R2[:, 0] - top_R2[:, 1]).argsort(descending=True, stable=True)]
    worst_Q = rank_Q.argsort(descending=True, stable=True)
    worst_Q = worst_Q[rank_Q[worst_Q] > 0]
    return {"best": _one_a_group(right_R, group_Q), "worst": _one_a_group(worst_Q, group_Q)}


def _one_a_group(order: Tensor, group_Q: Tensor) -> Tensor:
    seen: dict[int, int] = {}
    for q in order.tolist():
        seen.setdefault(int(group_Q[q]), q)
        if len(seen) == EXAMPLES:
            break
    return torch.tensor(list(seen.values()), dtype=torch.int64)
