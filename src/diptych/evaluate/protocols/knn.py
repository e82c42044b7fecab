"""k-nearest neighbours: a picture is what the training pictures most like it are; nothing is fitted.

Paper: Wu et al., Unsupervised Feature Learning via Non-parametric Instance Discrimination (arXiv:1805.01978), section 3.4.

Each of the k nearest votes for its class with exp(cosine / temperature). k and temperature are those that name most of the validation
pictures rightly, asked of the training pictures alone; the test pictures are then asked of train and validation together.
"""

from __future__ import annotations

from typing import Any

from diptych.core.card import Card
from diptych.evaluate import fitting
from diptych.evaluate.details import Thumbs
from diptych.evaluate.metrics import classification, neighbours
from diptych.evaluate.outcome import About, Metric, Outcome, Question

CARD = Card(
    id="knn",
    name="Nearest neighbours",
    family="protocol",
    paper="Unsupervised Feature Learning via Non-parametric Instance Discrimination (arXiv:1805.01978)",
    where="section 3.4, weighted kNN",
    code="https://github.com/zhirongw/lemniscate.pytorch",
    needs=frozenset({"labels", "a train split"}),
)
ORDER = 11
ASPECT = "Probes"
SUITES = {"full": ("study/kinds", "study/zero-shot")}
ABOUT = {
    "top1": About("Top-1", "the right name comes first"),
    "mean_per_class": About("Mean per class", "top-1, every class counting the same"),
}
KS = (1, 2, 5, 10, 20, 50, 100, 200)
TEMPERATURES = (0.02, 0.05, 0.07, 0.1, 0.2)


def applies(question: Question) -> bool:
    """There are classes, labels and a train split."""
    return fitting.can_fit(question)


def run(question: Question) -> Outcome:
    """Top-1 and mean per class on the pictures that have a label; errors as in the linear probe."""
    test, index_N = fitting.asked(question)
    train, held = fitting.splits(question)
    classes, most = len(question.classes), max(KS)
    cosine_Mk, at_Mk = neighbours.nearest(held.image_ND, train.image_ND, most)
    k, temperature, told = neighbours.choose(cosine_Mk, train.label_N[at_Mk], held.label_N, classes, KS, TEMPERATURES)
    both = train + held
    cosine_Nk, at_Nk = neighbours.nearest(test.image_ND, both.image_ND, k)
    score_NK = neighbours.votes(cosine_Nk, both.label_N[at_Nk], classes, k, temperature)
    hit_N = classification.top_k(classification.label_ranks(score_NK, test.label_N), 1)
    mean_C, class_C = classification.per_class(hit_N, test.label_N, classes)
    chance = classification.top_k_chance(1, classes)
    metrics = (Metric("top1", hit_N, test.group_N, chance), Metric("mean_per_class", mean_C, class_C, chance, hits=False))
    return Outcome(CARD.id, metrics, index_N, {"told": told, "k": k, "temperature": temperature})


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """Validation accuracy against k, one curve a temperature."""
    show = outcome.show
    told: dict[tuple[int, float], float] = show["told"]
    about = f"k = {show['k']} and temperature {show['temperature']:g} name most of the held-out pictures."
    series = [
        {"name": f"temperature {t:g}", "points": [[k, hit] for (k, other), hit in told.items() if other == t]}
        for t in sorted({t for _, t in told})
    ]
    figure = {"kind": "lines", "title": "Choosing how many neighbours", "about": about, "x": "neighbours", "y": "top-1"}
    return {"figures": [figure | {"series": series, "log": True, "share": True}]}
