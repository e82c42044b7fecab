"""How many directions of the joint space are in use: effective rank of the pictures' and of the captions' rows.

Paper: Garrido et al., RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised Representations by Their Rank
(arXiv:2210.02885), equation 1; the measure is Roy and Vetterli's (EUSIPCO 2007). A collapsed model has a rank near 1; among models
trained alike on the same data, a low rank goes with a poor linear probe. It says nothing across data sets or model widths.

The rank of fewer rows is lower (it cannot exceed their number), so at most :data:`LIMIT` rows are taken and numbers are compared at equal
n. For the same reason its interval is a jackknife: a bootstrap resample has a third fewer different rows. Of the captions each picture's
first is taken. Shapes: N rows, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.evaluate.details import Thumbs
from diptych.evaluate.metrics import rank
from diptych.evaluate.metrics.jackknife import grouped
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.protocols import geometry

CARD = Card(
    id="rankme",
    name="RankMe",
    family="protocol",
    paper="RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised Representations by Their Rank (arXiv:2210.02885)",
    where="equation 1",
    claim="picks hyperparameters without labels, at nearly no loss against picking with them",
)
ORDER = 60
ASPECT = "Representation"
SUITES = {"full": ("pictograms/retrieval",)}
USED = "directions that their rows use; among models trained alike, more is better"
CENTRED = "directions, the mean row taken away"
ABOUT = {
    "image_rank": About("Effective rank of pictures", USED, "neither", share=False),
    "text_rank": About("Effective rank of captions", USED, "neither", share=False),
    "image_rank_centred": About("Effective rank of pictures about their mean", CENTRED, "neither", share=False),
    "text_rank_centred": About("Effective rank of captions about their mean", CENTRED, "neither", share=False),
}
LIMIT = 2000


def applies(question: Question) -> bool:
    """There are at least four pictures, and more than rows (its random numbers)."""
    return question.more is not None and len(question.table) >= 4


def run(question: Question) -> Outcome:
    """Effective rank with RankMe's ε, with and without the mean row. Intervals leave out concepts, else pictures."""
    if geometry.applies(question):
        index_N, image_ND, text_ND, table = geometry.paired(question, LIMIT)
        sides = {"image": image_ND, "text": text_ND}
    else:
        index_N = torch.randperm(len(question.table), generator=question.view.generator("rankme"))[:LIMIT].sort().values
        table = question.table.take(index_N)
        sides = {"image": question.image_ND[index_N]}
    metrics, spectra = [], {}
    for centred in (False, True):
        for side, rows_ND in sides.items():
            name = f"{side}_rank{'_centred' if centred else ''}"

            def statistic(index: Tensor, rows_ND: Tensor = rows_ND, centred: bool = centred) -> float:
                return rank.effective_rank(rows_ND[index], centred=centred)

            found = grouped(statistic, len(rows_ND), question.view.generator(name), unit_N=table.group_N, bounds=(1.0, rows_ND.shape[1]))
            metrics.append(Metric(name, torch.zeros(0, dtype=torch.float64), table.group_N, None, hits=False, given=found))
            if centred:
                spectra[side] = rank.singular_values(rows_ND, centred=True)
    return Outcome(CARD.id, tuple(metrics), index_N, {"spectra": spectra})


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """How much of the variance the first directions hold."""
    series = []
    for side, name in (("image", "pictures"), ("text", "captions")):
        if side in outcome.show["spectra"]:
            share_K = outcome.show["spectra"][side].square()
            held_K = share_K.cumsum(0) / share_K.sum()
            series.append({"name": name, "points": [[k + 1, round(float(held), 5)] for k, held in enumerate(held_K)]})
    return {
        "figures": [
            {
                "kind": "lines",
                "title": "Variance held by the first directions",
                "series": series,
                "x": "directions, the strongest first",
                "y": "share of the variance",
            }
        ]
    }
