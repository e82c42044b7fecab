"""Unknowns: does the model's own confidence tell pictures of things that have a name here from pictures of things that have none?

Papers: Ming et al., Delving into Out-of-Distribution Detection with Vision-Language Representations (arXiv:2211.13445), section 3; the
scores and their sources are in :mod:`diptych.evaluate.metrics.ood`. Nothing is trained.

The known pictures are the set's own, the unknown ones those of its companion ``"unknown"``. A class that both name is unknown: its name and
its pictures are taken out of the known side, so a set of all concepts can be asked about those that were never trained on.
Shapes: N known and U unknown pictures, K known names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.evaluate import fitting
from diptych.evaluate.details import Thumbs
from diptych.evaluate.metrics import ood
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.protocols.zero_shot import class_rows

CARD = Card(
    id="unknowns",
    name="Unknown things, by confidence",
    family="protocol",
    paper="Delving into Out-of-Distribution Detection with Vision-Language Representations (arXiv:2211.13445)",
    where="section 3",
    code="https://github.com/deeplearning-wisc/MCM",
    needs=frozenset({"labels", "an unknown companion"}),
)
ORDER = 50
ASPECT = "Unknowns"
SUITES = {"quick": ("pictograms/zero-shot",), "full": ("pictograms/zero-shot", "study/zero-shot")}
KINDS = {
    "auroc": ("AUROC", "a known picture scores above an unknown one", "higher", ood.auroc),
    "fpr95": ("FPR95", "unknown pictures that pass where 95 % of the known ones do", "lower", ood.fpr),
    "aupr": ("AUPR", "average precision at finding the unknown pictures", "higher", ood.aupr),
}
ABOUT = {
    f"{score}_{kind}": About(f"{title}, {name}", meaning, better)
    for score, name in (("msp", "largest probability"), ("mcm", "MCM"), ("max_logit", "largest similarity"), ("energy", "energy"))
    for kind, (title, meaning, better, _) in KINDS.items()
}
BARS = 20


@dataclass(frozen=True, slots=True)
class Mixed:
    """Known and unknown pictures against the known names.

    Args:
        known: the known pictures, labels among the K known names; ``index_N`` is their place among the question's samples.
        unknown_UD: rows of the unknown pictures; ``unit_U`` their concepts.
        class_KD: rows of the known names, ``names`` in words.
    """

    known: fitting.Part
    index_N: Tensor
    unknown_UD: Tensor
    unit_U: Tensor
    class_KD: Tensor
    names: tuple[str, ...]

    def similarities(self) -> Tensor:
        """Cosines ``(N + U, K)``, known pictures first."""
        return torch.cat([self.known.image_ND, self.unknown_UD]) @ self.class_KD.T

    def unknown(self) -> Tensor:
        """1.0 for the unknown ones, float64 ``N + U``."""
        return torch.cat([torch.zeros(len(self.known)), torch.ones(len(self.unknown_UD))]).double()

    def units(self) -> Tensor:
        """What is resampled together; known and unknown concepts have different numbers."""
        return torch.cat([self.known.group_N, self.unit_U + int(self.known.group_N.max()) + 1])


def mixed(question: Question) -> Mixed:
    """The two sides. Raises :class:`UsageError` where the unknown set names every class."""
    split = question.view.companion("unknown")
    kept_K = torch.tensor([name not in set(split.classes) for name in question.classes])
    asked, index_N = fitting.asked(question)
    here_N = kept_K[asked.label_N].nonzero()[:, 0]
    if not len(here_N):
        why = f"its unknown companion {split.material.name!r} names every class, so nothing known is left"
        raise UsageError(f"set {question.view.data.name!r}", why, "Give a companion with pictures of other things")
    new_K = kept_K.cumsum(0) - 1
    known = asked.take(here_N)
    known = fitting.Part(known.image_ND, new_K[known.label_N], known.group_N)
    class_KD = class_rows(question.classes, question.templates, question.encode_text)[kept_K]
    names = tuple(name for name, kept in zip(question.classes, kept_K.tolist(), strict=True) if kept)
    return Mixed(known, index_N[here_N], split.image_ND, split.table.group_N, class_KD, names)


def applies(question: Question) -> bool:
    """There are classes, labels, unknown pictures, and a model with a scale."""
    return fitting.named(question) and question.more is not None and question.more.has("unknown") and hasattr(question.more.model, "scale")


def run(question: Question) -> Outcome:
    """AUROC, FPR95 and AUPR of each training-free score. Intervals resample concepts (or pictures) of both sides.

    Raises:
        UsageError: see :func:`mixed`.
    """
    two = mixed(question)
    found = ood.scores(two.similarities(), fitting.scale(question.view.model))
    metrics = [metric for name, score_M in found.items() for metric in measured(name, score_M, two)]
    show = {"scores": found, "unknown": two.unknown()}
    return Outcome(CARD.id, tuple(metrics), two.index_N, show)


def measured(name: str, score_M: Tensor, two: Mixed) -> list[Metric]:
    """``NAME_auroc``, ``NAME_fpr95`` and ``NAME_aupr`` of one score."""
    value_M2, unit_M = torch.stack([score_M, two.unknown()], 1), two.units()
    chance = {"auroc": 0.5, "fpr95": 0.95, "aupr": float(two.unknown().mean())}
    return [Metric(f"{name}_{kind}", value_M2, unit_M, chance[kind], hits=False, of=of) for kind, (*_, of) in KINDS.items()]


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """For each threshold that lets a share of the known pictures pass, the share of the unknown ones that pass with them."""
    unknown_M = outcome.show["unknown"] != 0
    series = [
        {"name": ood.SCORES.get(name, name), "points": passing(score_M[~unknown_M], score_M[unknown_M])}
        for name, score_M in outcome.show["scores"].items()
    ]
    about = (
        "How many unknown pictures pass as known, against how many known ones do. The lower the curve, the better; the diagonal guesses."
    )
    figure = {"kind": "lines", "title": "Unknown pictures that pass", "about": about, "x": "known pictures that pass"}
    return {"figures": [figure | {"y": "unknown pictures that pass", "series": series, "diagonal": True, "share": True, "x_share": True}]}


def passing(known_N: Tensor, unknown_U: Tensor) -> list[list[float]]:
    """``[share of known, share of unknown]`` at or above thresholds that pass 0, 5, … 100 % of the known pictures."""
    level_B = torch.linspace(1, 0, BARS + 1, dtype=torch.float64)
    threshold_B = torch.quantile(known_N.double(), level_B, interpolation="higher")
    return [[float((known_N >= t).double().mean()), float((unknown_U >= t).double().mean())] for t in threshold_B]
