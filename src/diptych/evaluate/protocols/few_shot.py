"""Few-shot probe: how much a linear probe makes of 1, 2, 4, 8 and 16 labelled pictures a class.

Paper: Radford et al., Learning Transferable Visual Models From Natural Language Supervision (arXiv:2103.00020), section 3.1.5 and figure 6
(few-shot linear probes beside zero-shot).

For each number of shots, :data:`DRAWS` times: so many pictures of each class are drawn from train (all of a class that has fewer), and a
logistic regression is fitted on them. The penalty of each number of shots is chosen once, by the first draw's accuracy on the validation
split. The interval resamples draws and concepts (or pictures) both, so it says what another draw and other pictures could have given.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from diptych.core.card import Card
from diptych.evaluate import fitting
from diptych.evaluate.details import Thumbs
from diptych.evaluate.metrics import bootstrap, classification, logistic
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.protocols.linear_probe import precision
from diptych.evaluate.protocols.zero_shot import class_rows

CARD = Card(
    id="few_shot",
    name="Few-shot probe",
    family="protocol",
    paper="Learning Transferable Visual Models From Natural Language Supervision (arXiv:2103.00020)",
    where="section 3.1.5, figure 6",
    needs=frozenset({"labels", "a train split"}),
)
ORDER = 12
ASPECT = "Probes"
SUITES = {"full": ("study/kinds",)}
SHOTS = (1, 2, 4, 8, 16)
ABOUT = {
    **{
        f"{shots}_shot": About(f"{shots} shot{'s' if shots > 1 else ''}", "top-1 of a probe on so many pictures a class") for shots in SHOTS
    },
    "zero_shot_top1": About("Zero-shot on the same pictures", "top-1 from the names alone"),
}
DRAWS = 8
RESAMPLES = 1000


def applies(question: Question) -> bool:
    """There are classes, labels and a train split."""
    return fitting.can_fit(question)


def run(question: Question) -> Outcome:
    """Top-1 after each number of shots that some class has, and zero-shot top-1 on the same pictures; errors as in the linear probe."""
    test, index_N = fitting.asked(question)
    train, held = fitting.splits(question)
    classes = len(question.classes)
    chance = classification.top_k_chance(1, classes)
    largest = int(torch.bincount(train.label_N).max())
    metrics, chosen = [], {}
    for shots in [shots for shots in SHOTS if shots <= largest]:
        drawn = [draw(train, shots, question.view.generator("shots", str(shots), str(i))) for i in range(DRAWS)]
        how, path = precision(len(drawn[0]), classes)
        first = logistic.choose(drawn[0].image_ND, drawn[0].label_N, held.image_ND, held.label_N, classes, path, **how)[0]
        probes = [first, *(logistic.fit(each.image_ND, each.label_N, classes, first.c, **how) for each in drawn[1:])]
        ranks = [classification.label_ranks(probe.logits(test.image_ND), test.label_N) for probe in probes]
        hit_NR = torch.stack([classification.top_k(rank_N, 1) for rank_N in ranks], 1)
        found = crossed(hit_NR, test.group_N, question.view.generator("few-shot interval", str(shots)))
        metrics.append(Metric(f"{shots}_shot", hit_NR.mean(1), test.group_N, chance, hits=False, given=found))
        chosen[shots] = first.c
    class_KD = class_rows(question.classes, question.templates, question.encode_text)
    named_N = classification.top_k(classification.feature_ranks(test.image_ND, class_KD, test.label_N), 1)
    metrics.append(Metric("zero_shot_top1", named_N, test.group_N, chance))
    show = {"found": {m.name: m.given for m in metrics if m.given}, "zero_shot": float(named_N.mean()), "c": chosen, "chance": chance}
    return Outcome(CARD.id, tuple(metrics), index_N, show)


def draw(train: fitting.Part, shots: int, stream: Generator) -> fitting.Part:
    """``shots`` pictures of each class, all of a class that has fewer."""
    order_N = torch.randperm(len(train), generator=stream)
    order_N = order_N[train.label_N[order_N].argsort(stable=True)]
    count_K = torch.bincount(train.label_N)
    place_N = torch.arange(len(train)) - (count_K.cumsum(0) - count_K)[train.label_N[order_N]]
    return train.take(order_N[place_N < shots])


def crossed(hit_NR: Tensor, unit_N: Tensor, stream: Generator, resamples: int = RESAMPLES) -> bootstrap.Estimate:
    """The mean of all hits; each resample draws units and draws anew (pigeonhole bootstrap, Owen, Annals of Applied Statistics 1, 2007).

    Args:
        hit_NR: one row an example, one column a draw.
        unit_N: examples of one unit are resampled together.
    """
    _, index_N = unit_N.unique(return_inverse=True)
    units, draws = int(index_N.max()) + 1, hit_NR.shape[1]
    sum_UR = torch.zeros(units, draws, dtype=torch.float64).index_add_(0, index_N, hit_NR.double())
    size_U = torch.bincount(index_N, minlength=units).double()
    unit_SU = torch.multinomial(torch.ones(units), resamples * units, replacement=True, generator=stream).view(resamples, units)
    draw_SR = torch.randint(draws, (resamples, draws), generator=stream)
    weight_SU = torch.zeros(resamples, units, dtype=torch.float64).scatter_add_(1, unit_SU, torch.ones_like(unit_SU, dtype=torch.float64))
    weight_SR = torch.zeros(resamples, draws, dtype=torch.float64).scatter_add_(1, draw_SR, torch.ones_like(draw_SR, dtype=torch.float64))
    mean_S = (weight_SU @ sum_UR * weight_SR).sum(1) / (weight_SU @ size_U * draws)
    low, high = torch.quantile(mean_S, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return bootstrap.Estimate(float(hit_NR.double().mean()), (low, high), units, mean_S)


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """Accuracy against shots beside zero-shot, as in the paper's figure 6."""
    found: dict[str, bootstrap.Estimate] = outcome.show["found"]
    if not found:
        return {}
    shots = [int(name.partition("_")[0]) for name in found]
    points = [[x, one.value] for x, one in zip(shots, found.values(), strict=True)]
    probe = {"name": "probe", "points": points}
    probe |= {"low": [one.interval[0] for one in found.values()], "high": [one.interval[1] for one in found.values()]}
    flat = [
        {"name": name, "points": [[x, outcome.show[key]] for x in shots]}
        for name, key in (("zero-shot", "zero_shot"), ("chance", "chance"))
    ]
    about = f"{DRAWS} draws for each number of shots; the band resamples draws and concepts."
    figure = {"kind": "lines", "title": "Accuracy against shots", "about": about, "x": "labelled pictures a class", "y": "top-1"}
    return {"figures": [figure | {"series": [probe, *flat], "log": True, "share": True}]}
