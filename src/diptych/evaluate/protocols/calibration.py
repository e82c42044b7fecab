"""Calibration: when the model says 80 %, is it right 80 % of the time; before and after a temperature; and what it gains by silence.

Papers: Guo et al., On Calibration of Modern Neural Networks (arXiv:1706.04599), sections 2 and 4.2; the others are named at the metrics
(:mod:`diptych.evaluate.metrics.calibration`).

Probabilities are softmax(scale · similarity), with the model's own scale, over the names of zero-shot classification. A bias (SigLIP) is
the same for every name and drops out of softmax. The temperature and the thresholds are fitted on the validation split (without one, on a
part held out of train; without either, only the numbers before are shown), never on the test pictures.
Shapes: N pictures, V calibration pictures, K classes, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.evaluate import fitting
from diptych.evaluate.details import Thumbs
from diptych.evaluate.metrics import calibration as metric
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.protocols.zero_shot import class_rows

CARD = Card(
    id="calibration",
    name="Calibration",
    family="protocol",
    paper="On Calibration of Modern Neural Networks (arXiv:1706.04599)",
    where="sections 2 and 4.2",
    needs=frozenset({"labels"}),
)
ORDER = 40
ASPECT = "Confidence"
SUITES = {"quick": ("pictograms/zero-shot",), "full": ("pictograms/zero-shot", "study/zero-shot")}
COVERAGE, KEEP, BLOCK, POINTS = 0.8, 0.9, 4096, 100
_GAP = "how far confidence and share of right answers lie apart"
ABOUT = {
    "ece": About("ECE", f"{_GAP}, {metric.BINS} bins of equal mass", "lower"),
    "ece_calibrated": About("ECE, calibrated", "the same after temperature scaling", "lower"),
    "rms_error": About("RMS calibration error", "root mean square gap, without what chance adds", "lower"),
    "rms_error_calibrated": About("RMS calibration error, calibrated", "the same after temperature scaling", "lower"),
    "nll": About("NLL", "−log of the right name's probability, nats", "lower", share=False),
    "nll_calibrated": About("NLL, calibrated", "the same after temperature scaling", "lower", share=False),
    "brier": About("Brier score", "squared error of the probabilities, 0 to 2", "lower", share=False),
    "brier_calibrated": About("Brier score, calibrated", "the same after temperature scaling", "lower", share=False),
    "aurc": About("AURC", "share of wrong answers, averaged over how many pictures are answered", "lower"),
    "selective_80": About("Top-1 of the surest 80 %", "share of right answers where the least sure fifth is not answered"),
    "kept_right": About("Right name kept", f"it passes its threshold, fitted to keep {KEEP:.0%}", "neither"),
    "kept_names": About("Names kept", "how many names pass their thresholds", "lower", share=False),
}


def applies(question: Question) -> bool:
    """There are classes, labels, and a model with a scale."""
    return fitting.named(question) and question.more is not None and hasattr(question.more.model, "scale")


def run(question: Question) -> Outcome:
    """Calibration errors, NLL and Brier before and after; AURC and selective accuracy; what the thresholds keep.

    Raises:
        UsageError: the calibration split has no class in common with the set.
        SealedError: it holds test pictures.
    """
    test, index_N = fitting.asked(question)
    class_KD = class_rows(question.classes, question.templates, question.encode_text)
    own = fitting.scale(question.view.model)
    before = told(test, class_KD, own)
    metrics = numbers(before, test.group_N, len(class_KD), "")
    show: dict[str, Any] = {"before": before["sure_N2"], "temperature": None}
    if question.more is not None and (question.more.has("validation") or question.more.has("train")):
        held = fitting.calibration(question)
        logit_VK = own * (held.image_ND @ class_KD.T)
        warmth = metric.temperature(logit_VK, held.label_N)
        enough = len(held) >= metric.needed(KEEP)
        threshold_K = metric.thresholds((logit_VK.double() / warmth).softmax(1), held.label_N, KEEP)[0] if enough else None
        after = told(test, class_KD, own / warmth, threshold_K)
        metrics += numbers(after, test.group_N, len(class_KD), "_calibrated")
        show |= {"after": after["sure_N2"], "temperature": warmth, "held": len(held)}
    metrics += [
        Metric("aurc", before["sure_N2"], test.group_N, 1 - 1 / len(class_KD), hits=False, of=metric.aurc),
        Metric("selective_80", before["sure_N2"], test.group_N, 1 / len(class_KD), hits=False, of=metric.selective),
    ]
    if show["temperature"] and "kept_N" in after:
        metrics += [
            Metric("kept_right", after["kept_N"], test.group_N, None),
            Metric("kept_names", after["names_N"], test.group_N, None, False),
        ]
    return Outcome(CARD.id, tuple(metrics), index_N, show)


def told(test: fitting.Part, class_KD: Tensor, scale: float, threshold_K: Tensor | None = None) -> dict[str, Tensor]:
    """``sure_N2`` (confidence, hit), ``nll_N``, ``brier_N`` and, with thresholds, ``kept_N`` and ``names_N``."""
    parts: dict[str, list[Tensor]] = {}
    for image_BD, label_B in zip(test.image_ND.split(BLOCK), test.label_N.split(BLOCK), strict=True):
        logit_BK = scale * (image_BD @ class_KD.T).double()
        made = {"sure_N2": metric.confidence(logit_BK, label_B), "nll_N": metric.nll(logit_BK, label_B)}
        made["brier_N"] = metric.brier(logit_BK, label_B)
        if threshold_K is not None:
            kept_BK = logit_BK.softmax(1) >= threshold_K
            made |= {"kept_N": kept_BK.gather(1, label_B[:, None])[:, 0].double(), "names_N": kept_BK.sum(1).double()}
        for name, value in made.items():
            parts.setdefault(name, []).append(value)
    return {name: torch.cat(values) for name, values in parts.items()}


def numbers(found: dict[str, Tensor], unit_N: Tensor, classes: int, suffix: str) -> list[Metric]:
    """ECE, RMS error, NLL and Brier of one set of probabilities."""
    even = {"nll": float(torch.tensor(float(classes)).log()), "brier": 1 - 1 / classes}
    return [
        Metric(f"ece{suffix}", found["sure_N2"], unit_N, None, hits=False, of=metric.ece),
        Metric(f"rms_error{suffix}", found["sure_N2"], unit_N, None, hits=False, of=metric.rms_error),
        *(Metric(f"{name}{suffix}", found[f"{name}_N"], unit_N, even[name], hits=False) for name in ("nll", "brier")),
    ]


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """The reliability diagram, before and after, and the risk–coverage curve."""
    show = outcome.show
    runs = {"as the model says": show["before"]}
    about = f"{metric.BINS} bins of equal mass. On the diagonal, confidence is what it says; below it, the model is too sure."
    if show["temperature"]:
        runs[f"with temperature {show['temperature']:.3g}"] = show["after"]
        about += f" The temperature was fitted on {show['held']} other pictures."
    reliability: dict[str, Any] = {
        "kind": "lines",
        "title": "Reliability",
        "about": about,
        "x": "confidence",
        "y": "share of right answers",
    }
    reliability |= {"diagonal": True, "share": True, "x_share": True}
    reliability["series"] = [{"name": name, "points": metric.bins(sure_N2)[:, :2].tolist()} for name, sure_N2 in runs.items()]
    risk_N = metric.risk_coverage(show["before"])
    at = torch.linspace(0, len(risk_N) - 1, min(POINTS, len(risk_N))).long()
    points = [[(i + 1) / len(risk_N), float(risk_N[i])] for i in at.tolist()]
    about = "The share of wrong answers among the pictures of which the model is surest, from few of them to all."
    coverage = {"kind": "lines", "title": "Risk and coverage", "about": about, "x": "pictures answered", "y": "wrong among them"}
    coverage |= {"series": [{"name": "as the model says", "points": points}], "share": True, "x_share": True}
    return {"figures": [reliability, coverage]}
