"""The same pictures asked for in several languages: where the words are another language's, what is lost?

Paper: Thapliyal et al., Crossmodal-3600: A Massively Multilingual Multimodal Evaluation Dataset (arXiv:2205.12522): one set of
pictures, one measure, languages side by side.

Runs on a set that has sisters in other languages (``NAME-de``, ``NAME-fr``: the same pictures with other words). With classes it is
zero-shot classification by each language's own names and templates, else text → image retrieval by each language's captions.
``language_agreement`` tells how often another language gives the answer that the set's own gives, right or wrong.
Shapes: N pictures, L languages.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.data.sets.base import EvalSet
from diptych.data.sets.find import find, names
from diptych.evaluate.details import Thumbs
from diptych.evaluate.material import table
from diptych.evaluate.metrics import bootstrap, classification, retrieval
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.protocols.retrieval import flatten
from diptych.evaluate.protocols.zero_shot import class_rows

CARD = Card(
    id="multilingual",
    name="Languages side by side",
    family="protocol",
    paper="Crossmodal-3600: A Massively Multilingual Multimodal Evaluation Dataset (arXiv:2205.12522)",
    where="the same pictures in every language",
    needs=frozenset({"the same pictures with words in other languages"}),
)
ORDER = 4
ASPECT = "Languages"
SUITES = {"full": ("pictograms/zero-shot", "pictograms/retrieval")}
AT = 10
ABOUT = {
    "languages_top1": About("Top-1, mean of the languages", "the right name comes first"),
    "worst_language_top1": About("Top-1, worst language", "the right name comes first"),
    "top1_in": About("Top-1 by language", "the right name comes first"),
    "language_agreement": About("Agreement of languages", "another language gives the same answer, right or wrong"),
    "languages_r@10": About("Text → image recall at 10, mean of the languages", "the right picture is among the first ten"),
    "worst_language_r@10": About("Text → image recall at 10, worst language", "the right picture is among the first ten"),
    "r@10_in": About("Text → image recall at 10 by language", "the right picture is among the first ten"),
}


@functools.cache
def sisters(name: str) -> dict[str, EvalSet]:
    """The sets called ``name-LANGUAGE``, by language."""
    found = {each: find(each) for each in names() if each.startswith(f"{name}-")}
    return {one.language: one for each, one in found.items() if each == f"{name}-{one.language}"}


def applies(question: Question) -> bool:
    """The set has sisters in other languages, and classes with labels or captions."""
    has = bool(question.classes) and bool((question.table.label_N >= 0).any())
    return question.more is not None and bool(sisters(question.view.data.name)) and (has or any(question.table.captions))


def run(question: Question) -> Outcome:
    """Mean of the languages, worst language, each language, and agreement; intervals resample concepts, all languages together."""
    own = find(question.view.data.name).language
    return _named(question, own) if question.classes else _retrieved(question, own)


def _named(question: Question, own: str) -> Outcome:
    index_N = (question.table.label_N >= 0).nonzero()[:, 0]
    image_ND, part = question.image_ND[index_N], question.table.take(index_N)
    prompts = {own: (question.classes, question.templates)}
    prompts |= {language: (one.classes, one.templates) for language, one in sisters(question.view.data.name).items()}
    hit, answer = {}, {}
    for language, (classes, templates) in prompts.items():
        rows_KD = class_rows(classes, templates, question.encode_text)
        hit[language] = classification.top_k(classification.feature_ranks(image_ND, rows_KD, part.label_N), 1)
        answer[language] = classification.predictions(image_ND, rows_KD)
    chance = 1 / len(question.classes)
    metrics = _side_by_side(hit, "top1", part.group_N, chance)
    same_NL = torch.stack([answer[language] == answer[own] for language in answer if language != own], 1).double()
    metrics.append(Metric("language_agreement", same_NL.mean(1), part.group_N, chance, hits=False))
    return Outcome(CARD.id, tuple(metrics), index_N, {"hit": hit, "unit": part.group_N, "of": "top-1", "chance": chance})


def _retrieved(question: Question, own: str) -> Outcome:
    """A picture's value in a language is the mean over its captions."""
    tables = {own: question.table}
    for language, one in sisters(question.view.data.name).items():
        by_id = {sample.id: sample for sample in one.samples()}
        if set(question.table.ids) <= set(by_id):
            tables[language] = table([by_id[identity] for identity in question.table.ids])
    told = [all(each.captions[i] for each in tables.values()) for i in range(len(question.table))]
    index_N = torch.tensor(told).nonzero()[:, 0]
    image_ND, group_N = question.image_ND[index_N], question.table.group_N[index_N]
    hit = {}
    for language, found in tables.items():
        texts, owner_M = flatten(found.take(index_N))
        rank_M = retrieval.ranks(question.encode_text(texts), image_ND, group_N[owner_M], group_N)
        sum_N = torch.zeros(len(index_N), dtype=torch.float64).index_add_(0, owner_M, retrieval.recall(rank_M, AT))
        hit[language] = sum_N / torch.bincount(owner_M, minlength=len(index_N)).clamp(min=1)
    chance = retrieval.recall_chance(AT, len(index_N), retrieval.positives_count(group_N, group_N))
    metrics = _side_by_side(hit, f"r@{AT}", group_N, chance)
    return Outcome(CARD.id, tuple(metrics), index_N, {"hit": hit, "unit": group_N, "of": f"recall at {AT}", "chance": chance})


def _side_by_side(hit: dict[str, Tensor], name: str, unit_N: Tensor, chance: float) -> list[Metric]:
    value_NL = torch.stack(list(hit.values()), 1)

    def worst(rows_NL: Tensor) -> float:
        return float(rows_NL.mean(0).min())

    return [
        Metric(f"languages_{name}", value_NL.mean(1), unit_N, chance, hits=False),
        Metric(f"worst_language_{name}", value_NL, unit_N, chance, hits=False, of=worst),
        *(Metric(f"{name}_in[{language}]", value_N, unit_N, chance, hits=False) for language, value_N in hit.items()),
    ]


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """The languages as bars, best first."""
    rows = []
    for language, value_N in outcome.show["hit"].items():
        found = bootstrap.mean(value_N, torch.Generator().manual_seed(0), unit_N=outcome.show["unit"], share=True)
        bar = {"name": language, "value": found.value, "low": found.interval[0], "high": found.interval[1]}
        rows.append(bar | {"chance": outcome.show["chance"]})
    rows.sort(key=lambda row: -row["value"])
    return {"figures": [{"kind": "bars", "title": f"The same pictures in each language: {outcome.show['of']}", "rows": rows}]}
