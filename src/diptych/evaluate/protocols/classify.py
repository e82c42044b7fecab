"""Naming by the head or the rule that a model carries: what adaptation gained, beside the same model's words.

Paper: Radford et al., Learning Transferable Visual Models From Natural Language Supervision (arXiv:2103.00020), section 3.2 (a classifier
on frozen rows against the zero-shot one).

Runs where the model has a head for exactly the set's classes, or a rule that answers for them; a rule sees the pictures in the set's
order, since some learn from a stream. A baseline without either names by words, as ``zero_shot`` does, so the paired gain is that over the
parent. Shapes: N pictures, K classes, B pictures of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.evaluate.metrics import classification
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.protocols.zero_shot import ABOUT as NAMING
from diptych.evaluate.protocols.zero_shot import class_rows, parts

CARD = Card(
    id="classify",
    name="Classification by the model's head or rule",
    family="protocol",
    paper="Learning Transferable Visual Models From Natural Language Supervision (arXiv:2103.00020)",
    where="section 3.2",
    needs=frozenset({"labels", "a head or rule for these classes"}),
)
ORDER = 2
ASPECT = "Naming"
SUITES = {"quick": (), "full": ()}
ABOUT: dict[str, About] = {name: NAMING[name] for name in ("top1", "top5", "mean_per_class")}


def applies(question: Question) -> bool:
    """The model has a head or a rule for these classes, and some picture has a label."""
    return not (question.head is None and question.rule is None) and bool((question.table.label_N >= 0).any())


def logits(question: Question, index_N: Tensor) -> Tensor:
    """Logits (N, K) of the pictures at ``index_N``: the rule's, else the head's, else similarities with the words."""
    image_ND = question.image_ND[index_N]
    if question.rule is not None:
        return by_rule(question, index_N)
    if question.head is None:
        return image_ND @ class_rows(question.classes, question.templates, question.encode_text).T
    with torch.no_grad():
        device = question.head.weight.device
        return torch.cat([question.head(part.to(device)).float().cpu() for part in image_ND.split(1024)])


def by_rule(question: Question, index_N: Tensor, batch: int = 64) -> Tensor:
    """Logits (N, K) of the model's rule, pictures in order."""
    rule, view = question.rule, question.view
    assert rule is not None
    answer = rule.answer(view.model, question.classes)
    given = (lambda part: question.image_ND[part]) if rule.config.reads == "rows" else view.pixels
    parts: Iterable[Tensor] = index_N.split(batch)
    if view.features.progress:
        from rich.progress import track

        parts = track(parts, description=f"pictures, by {rule.config.method}", total=-(-len(index_N) // batch))
    return torch.cat([answer.logits(given(part).to(view.model.device)).float().cpu() for part in parts])


def run(question: Question) -> Outcome:
    """Top-1, top-5, mean per class, and top-1 of each part of the set, on the pictures that have a label; units as in ``zero_shot``."""
    index_N = (question.table.label_N >= 0).nonzero()[:, 0]
    table, count = question.table.take(index_N), len(question.classes)
    rank_N = classification.label_ranks(logits(question, index_N), table.label_N)
    top1_N = classification.top_k(rank_N, 1)
    mean_C, class_C = classification.per_class(top1_N, table.label_N, count)
    metrics = [Metric("top1", top1_N, table.group_N, classification.top_k_chance(1, count))]
    if count > 5:
        metrics.append(Metric("top5", classification.top_k(rank_N, 5), table.group_N, classification.top_k_chance(5, count)))
    metrics.append(Metric("mean_per_class", mean_C, class_C, classification.top_k_chance(1, count), hits=False))
    metrics += parts(top1_N, table, "top1", classification.top_k_chance(1, count))
    return Outcome(CARD.id, tuple(metrics), index_N)
