"""Choosing between captions: does the model bind attributes to things, places to things, numbers to kinds?

Papers: Yuksekgonul et al., When and Why Vision-Language Models Behave like Bags-of-Words (arXiv:2210.01936), section 2 (ARO: the true
caption against the same words in another order); Thrush et al., Winoground (arXiv:2204.03162), metrics (text, image and group score of
two pictures with two captions).

A sample's ``meta`` says ``choices`` (captions), ``answer`` (the index of the true one) and, where pictures share their choices, ``pair``;
with ``ordered`` the choices are numbers from 0 on. A tie is a miss. Shapes: N pictures, K choices, D width.

    accuracy = mean(s(choice[answer], picture) > max(s(other, picture)))
    text     = mean over pairs of  s(c0, p0) > s(c1, p0) and s(c1, p1) > s(c0, p1)
    image    = mean over pairs of  s(c0, p0) > s(c0, p1) and s(c1, p1) > s(c1, p0);    group = text and image
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.core.types import Sample
from diptych.evaluate.details import Thumbs
from diptych.evaluate.metrics.classification import label_ranks
from diptych.evaluate.outcome import About, EncodeText, Metric, Outcome, Question

CARD = Card(
    id="choice",
    name="Choice between captions",
    family="protocol",
    paper="When and Why Vision-Language Models Behave like Bags-of-Words, and What to Do About It? (arXiv:2210.01936)",
    where="section 2",
    code="https://github.com/mertyg/vision-language-models-are-bows",
    needs=frozenset({"choices"}),
)
ORDER = 20
ASPECT = "Binding"
BINDING = ("pictobench/attributes", "pictobench/relations")
SUITES = {"quick": BINDING, "full": (*BINDING, "pictobench/counting")}
ABOUT = {
    "accuracy": About("Accuracy", "the true answer scores above every false one"),
    "text_score": About("Both pictures", "each of two pictures is given its own caption"),
    "image_score": About("Both captions", "each of two captions is given its own picture"),
    "group_score": About("Group score", "both pictures and both captions"),
    "count_error": About("Error in counting", "how far off the number is, on average", better="lower", share=False),
}
SHOWN = 12


def asked(question: Question, field: str) -> bool:
    """The question's first sample says ``field`` in its meta."""
    return question.more is not None and len(question.table) > 0 and field in question.view.samples(torch.tensor([0]))[0].meta


def applies(question: Question) -> bool:
    """The samples bring captions to choose from."""
    return asked(question, "choices")


def scores(samples: Sequence[Sample], image_ND: Tensor, encode_text: EncodeText) -> tuple[Tensor, Tensor]:
    """``score_NK`` float64, −inf beyond a sample's own choices, and ``answer_N``.

    Raises:
        UsageError: a sample has fewer than two choices, or its answer is none of them.
    """
    for sample in samples:
        choices, answer = sample.meta.get("choices"), sample.meta.get("answer")
        if not isinstance(choices, list | tuple) or len(choices) < 2 or not isinstance(answer, int) or not 0 <= answer < len(choices):
            why = "its meta names no two or more choices with the index of the true one"
            raise UsageError(f"sample {sample.id}", why, 'Write "choices": [caption, …] and "answer": index into its JSON')
    texts = list(dict.fromkeys(text for sample in samples for text in sample.meta["choices"]))
    at = {text: i for i, text in enumerate(texts)}
    width = max(len(sample.meta["choices"]) for sample in samples)
    index_NK = torch.tensor([[at[c] for c in s.meta["choices"]] + [-1] * (width - len(s.meta["choices"])) for s in samples])
    text_MD = encode_text(texts).double()
    score_NK = torch.stack([(text_MD[index_NK[:, k]] * image_ND.double()).sum(1) for k in range(width)], 1)
    return score_NK.masked_fill(index_NK < 0, -torch.inf), torch.tensor([sample.meta["answer"] for sample in samples])


def run(question: Question) -> Outcome:
    """Accuracy, of each kind too; for two pictures with two captions Winoground's three scores; for numbers the mean error.

    Pictures that share their choices are resampled together.
    """
    samples = question.view.samples()
    score_NK, answer_N = scores(samples, question.image_ND, question.encode_text)
    hit_N = (label_ranks(score_NK, answer_N) == 0).double()
    unit_N = units(samples, "pair")
    size_N = score_NK.isfinite().sum(1).double()
    metrics = [Metric("accuracy", hit_N, unit_N, float((1 / size_N).mean()))]
    pair_P2 = pairs(samples, answer_N, unit_N)
    if len(pair_P2):
        metrics += winoground(score_NK, answer_N, pair_P2)
    if all(sample.meta.get("ordered") for sample in samples):
        error_N = (score_NK.argmax(1) - answer_N).abs().double()
        spread_N = torch.stack([(torch.arange(int(k)) - a).abs().double().mean() for k, a in zip(size_N, answer_N, strict=True)])
        metrics.append(Metric("count_error", error_N, unit_N, float(spread_N.mean()), hits=False))
    metrics += parts("accuracy", hit_N, unit_N, question.table.part, 1 / size_N)
    shown = {"score_NK": score_NK, "answer_N": answer_N, "choices": [sample.meta["choices"] for sample in samples]}
    return Outcome(CARD.id, tuple(metrics), torch.arange(len(samples)), {**shown, "part": question.table.part})


def units(samples: Sequence[Sample], field: str) -> Tensor:
    """int64 ``unit_N``: samples whose meta agrees in ``field`` share a number; one without has its own."""
    known: dict[object, int] = {}
    return torch.tensor([known.setdefault(str(s.meta[field]) if field in s.meta else i, len(known)) for i, s in enumerate(samples)])


def parts(name: str, value_N: Tensor, unit_N: Tensor, part: Sequence[str], chance_N: Tensor) -> list[Metric]:
    """``name[part]`` of each part that samples name, in alphabetical order; none where there is only one."""
    names = sorted(set(part) - {""})
    chosen = {one: torch.tensor([p == one for p in part]) for one in names} if len(names) > 1 else {}
    return [Metric(f"{name}[{one}]", value_N[in_N], unit_N[in_N], float(chance_N[in_N].mean())) for one, in_N in chosen.items()]


def pairs(samples: Sequence[Sample], answer_N: Tensor, unit_N: Tensor) -> Tensor:
    """int64 ``pair_P2``: the pictures of answer 0 and of answer 1 of every unit of two pictures and two equal choices."""
    members: dict[int, list[int]] = {}
    for i, unit in enumerate(unit_N.tolist()):
        members.setdefault(unit, []).append(i)
    found = []
    for two in members.values():
        ordered = sorted(two, key=lambda i: int(answer_N[i]))
        offered = [list(samples[i].meta["choices"]) for i in two]
        if [int(answer_N[i]) for i in ordered] == [0, 1] and len(offered[0]) == 2 and offered[0] == offered[1]:
            found.append(ordered)
    return torch.tensor(found, dtype=torch.int64).reshape(-1, 2)


def winoground(score_NK: Tensor, answer_N: Tensor, pair_P2: Tensor) -> list[Metric]:
    """Text, image and group score; guessing gives 1/4, 1/4 and 1/6."""
    first_P2, second_P2 = score_NK[pair_P2[:, 0], :2], score_NK[pair_P2[:, 1], :2]
    text_P = (first_P2[:, 0] > first_P2[:, 1]) & (second_P2[:, 1] > second_P2[:, 0])
    image_P = (first_P2[:, 0] > second_P2[:, 0]) & (second_P2[:, 1] > first_P2[:, 1])
    named = ("text_score", text_P, 1 / 4), ("image_score", image_P, 1 / 4), ("group_score", text_P & image_P, 1 / 6)
    return [Metric(name, value_P.double(), None, chance) for name, value_P, chance in named]


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """Accuracy of each kind, and the pictures whose false caption won by most."""
    score_NK, answer_N, choices = (outcome.show[key] for key in ("score_NK", "answer_N", "choices"))
    rows = [
        {"name": metric.name[len("accuracy[") : -1], "value": float(metric.value_N.mean()), "chance": metric.chance}
        for metric in outcome.metrics
        if metric.name.startswith("accuracy[")
    ]
    false_NK = score_NK.scatter(1, answer_N[:, None], -torch.inf)
    lead_N = false_NK.max(1).values - score_NK.gather(1, answer_N[:, None])[:, 0]
    worst = lead_N.argsort(descending=True, stable=True)[:SHOWN]
    items = [
        {"picture": thumbs.name(i), "text": choices[i][int(answer_N[i])], "answer": choices[i][int(false_NK[i].argmax())]}
        for i in worst.tolist()
        if float(lead_N[i]) >= 0
    ]
    figures: list[dict[str, Any]] = [{"kind": "bars", "title": "Accuracy of each kind", "share": True, "rows": rows}] if rows else []
    if items:
        figures.append({"kind": "pictures", "title": "What is true, and what was chosen", "items": items})
    return {"figures": figures}
