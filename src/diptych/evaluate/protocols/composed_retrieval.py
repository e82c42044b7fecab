"""Composed-query retrieval: a picture and words together ask for another picture.

Paper: Saito et al., Pic2Word: Mapping Pictures to Words for Zero-shot Composed Image Retrieval (arXiv:2302.03084), section 4 (its
baselines: picture only, words only, and the mean of both rows); the task is that of Vo et al. (arXiv:1812.07119).

    query = unit(row of the picture + row of the words)
    rank = number of other pictures that are at least as near as the right one; the picture that asks is not among them

Composing means something only where the composed query beats both of its halves, so both are measured on the same questions, and the
difference to the better one is a metric of its own. The samples' ``meta["composed"]`` lists the questions that a picture asks, as
``{"words", "target" (a sample's id), "kind"}``. Shapes: Q questions, N pictures, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.evaluate.details import Thumbs
from diptych.evaluate.metrics.retrieval import TIE, recall
from diptych.evaluate.outcome import About, Metric, Outcome, Question

CARD = Card(
    id="composed_retrieval",
    name="Composed-query retrieval",
    family="protocol",
    paper="Pic2Word: Mapping Pictures to Words for Zero-shot Composed Image Retrieval (arXiv:2302.03084)",
    where="section 4, the baselines",
    needs=frozenset({"composed queries"}),
)
ORDER = 3
ASPECT = "Retrieval"
SUITES = {"full": ("scenes/composed",)}
SOURCES = {"composed": "Picture and words", "picture_only": "The picture alone", "words_only": "The words alone"}
AT = (1, 5)
ABOUT = {
    **{
        f"{name}_r@{k}": About(f"{title}, recall at {k}", f"the picture asked for is among the first {k}")
        for name, title in SOURCES.items()
        for k in AT
    },
    "composed_over_half": About("Composed over the better half", "recall at 1 beyond the better of picture and words alone", share=False),
}
WEIGHTS = tuple(i / 10 for i in range(11))
EXAMPLES = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions: who asks (``asker_Q``), the right answer (``target_Q``), the words and the kind of each."""

    asker_Q: Tensor
    target_Q: Tensor
    words: tuple[str, ...]
    kinds: tuple[str, ...]


def asked(question: Question) -> Asked:
    """The questions whose answer is among the pictures.

    Raises:
        UsageError: an entry of ``meta["composed"]`` lacks its words or its target, or no answer is among the pictures.
    """
    at = {identity: i for i, identity in enumerate(question.table.ids)}
    rows: list[tuple[int, int, str, str]] = []
    for i, sample in enumerate(question.view.samples()):
        for entry in sample.meta.get("composed") or ():
            if not isinstance(entry, dict) or not isinstance(entry.get("words"), str) or "target" not in entry:
                raise UsageError(f"sample {sample.id!r}", f"its composed query {entry!r} has no words or no target", "Give both")
            target = at.get(str(entry["target"]))
            if target is not None and target != i:
                rows.append((i, target, entry["words"], str(entry.get("kind", ""))))
    if not rows:
        raise UsageError("composed queries", "no target is among the pictures", "Name targets by the samples' ids")
    asker, target, words, kinds = zip(*rows, strict=True)
    return Asked(torch.tensor(asker), torch.tensor(target), words, kinds)


def ranks(query_QD: Tensor, image_ND: Tensor, target_Q: Tensor, asker_Q: Tensor, block: int = 512) -> Tensor:
    """Rank of each target, 0 = first, the asking picture left out; ties count against it (int64 ``Q``)."""
    parts = []
    gallery_DN = image_ND.double().T
    for start in range(0, len(query_QD), block):
        part = slice(start, start + block)
        score_qN = query_QD[part].double() @ gallery_DN
        own_q1 = score_qN.gather(1, target_Q[part, None])
        reach_qN = score_qN >= own_q1 - TIE
        reach_qN.scatter_(1, torch.stack([target_Q[part], asker_Q[part]], 1), False)
        parts.append(reach_qN.sum(1))
    return torch.cat(parts)


def compose(image_QD: Tensor, words_QD: Tensor, weight: float = 0.5) -> Tensor:
    """Unit rows of ``(1 − weight) · picture + weight · words``."""
    return torch.nn.functional.normalize((1 - weight) * image_QD.double() + weight * words_QD.double(), dim=1)


def applies(question: Question) -> bool:
    """The first picture asks such questions."""
    return question.more is not None and bool(question.view.samples(torch.tensor([0]))[0].meta.get("composed"))


def run(question: Question) -> Outcome:
    """Recall of the composed query and of its halves, over all questions and by kind; intervals resample the asking pictures' concepts."""
    found = asked(question)
    image_ND = question.image_ND
    words_QD, asking_QD = question.encode_text(found.words), image_ND[found.asker_Q]
    unit_Q, others = question.table.group_N[found.asker_Q], len(image_ND) - 1
    rank = {weight: ranks(compose(asking_QD, words_QD, weight), image_ND, found.target_Q, found.asker_Q) for weight in WEIGHTS}
    by_name = {"composed": rank[0.5], "picture_only": rank[0.0], "words_only": rank[1.0]}
    metrics = [Metric(f"{name}_r@{k}", recall(each, k), unit_Q, min(k / others, 1.0)) for name, each in by_name.items() for k in AT]
    hit = {name: recall(each, 1) for name, each in by_name.items()}
    better = max(("picture_only", "words_only"), key=lambda name: float(hit[name].mean()))
    metrics.append(Metric("composed_over_half", hit["composed"] - hit[better], unit_Q, 0.0, hits=False))
    kinds = sorted(set(found.kinds))
    for kind in kinds if len(kinds) > 1 else ():
        mask = torch.tensor([each == kind for each in found.kinds])
        metrics += [Metric(f"{name}_r@1[{kind}]", value[mask], unit_Q[mask], 1 / others) for name, value in hit.items()]
    nearest_Q = torch.cat([_others(part, image_ND, who).argmax(1) for part, who in _parts(compose(asking_QD, words_QD), found.asker_Q)])
    show = {"asked": found, "rank": rank, "nearest_Q": nearest_Q}
    return Outcome(CARD.id, tuple(metrics), torch.arange(len(image_ND)), show)


def _parts(query_QD: Tensor, asker_Q: Tensor, block: int = 512) -> Any:
    return zip(query_QD.split(block), asker_Q.split(block), strict=True)


def _others(query_qD: Tensor, image_ND: Tensor, asker_q: Tensor) -> Tensor:
    """Scores ``q,N`` with the asking picture out of reach."""
    return (query_qD.double() @ image_ND.double().T).scatter_(1, asker_q[:, None], -torch.inf)


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """Recall against the words' share in the query, and some questions with the picture that came first."""
    found, rank = outcome.show["asked"], outcome.show["rank"]
    series = []
    for kind in dict.fromkeys(found.kinds):
        mask = torch.tensor([each == kind for each in found.kinds])
        points = [[weight, round(float(recall(each[mask], 1).mean()), 4)] for weight, each in rank.items()]
        series.append({"name": f"another {kind}" if kind else "questions", "points": points})
    order = rank[0.5].argsort(stable=True)
    chosen = [*order[:EXAMPLES].tolist(), *order.flip(0)[:EXAMPLES].tolist()]
    items = []
    for q in chosen:
        right = int(rank[0.5][q]) == 0
        items.append({"picture": thumbs.name(int(found.asker_Q[q])), "text": f"this, and: {found.words[q]}", "note": "asks"})
        items.append(
            {
                "picture": thumbs.name(int(outcome.show["nearest_Q"][q])),
                "text": "came first",
                "note": "right" if right else f"wrong; the right one was number {int(rank[0.5][q]) + 1}",
            }
        )
    title = "Recall at 1 against the words' share in the query: 0 is the picture alone, 1 the words alone"
    return {
        "figures": [
            {"kind": "lines", "title": title, "series": series, "x": "share of the words", "y": "recall at 1"},
            {"kind": "pictures", "title": "Questions and what came first", "items": items},
        ]
    }
