"""Known or unknown? Scores that say how much a picture is one of the named things, and how well a score tells the two apart.

Sources: Hendrycks and Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples (arXiv:1610.02136): the largest
softmax probability, AUROC, AUPR; Ming et al., Delving into Out-of-Distribution Detection with Vision-Language Representations
(arXiv:2211.13445), section 3: MCM; Hendrycks et al., Scaling Out-of-Distribution Detection for Real-World Settings (arXiv:1911.11132): the
largest logit; Liu et al., Energy-based Out-of-distribution Detection (arXiv:2010.02759), section 3.

Shapes: N pictures, K names. A higher score is more like a known thing. ``found_N2`` holds a score and 1.0 where the picture is unknown.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diptych.evaluate.metrics.localisation import weighted_auroc

SCORES = {
    "msp": "Largest probability",
    "mcm": "MCM",
    "max_logit": "Largest similarity",
    "energy": "Energy",
}


def scores(similarity_NK: Tensor, scale: float, temperature: float = 1.0) -> dict[str, Tensor]:
    """The training-free scores, float64 ``N`` each, by the names of :data:`SCORES`.

    Args:
        similarity_NK: cosine similarities.
        scale: the model's own; logits are ``scale · similarity``.
        temperature: of MCM, which divides plain similarities by it (the paper's is 1).

    - ``msp``: the largest of softmax(scale · s), the model's own confidence;
    - ``mcm``: the largest of softmax(s / temperature);
    - ``max_logit``: the largest s (the largest logit divided by the scale, which changes no order);
    - ``energy``: logsumexp(scale · s) / scale.
    """
    s_NK = similarity_NK.double()
    best_N = s_NK.amax(1)
    sum_N = (scale * s_NK).logsumexp(1)
    return {
        "msp": (scale * best_N - sum_N).exp(),
        "mcm": (best_N / temperature - (s_NK / temperature).logsumexp(1)).exp(),
        "max_logit": best_N,
        "energy": sum_N / scale,
    }


def auroc(found_N2: Tensor) -> float:
    """The chance that a known picture scores higher than an unknown one, ties counting half; NaN where one kind is missing."""
    score_N, unknown_N = found_N2.unbind(1)
    return weighted_auroc(torch.stack([score_N, 1 - unknown_N, unknown_N], 1))


def fpr(found_N2: Tensor, kept: float = 0.95) -> float:
    """The share of unknown pictures that pass as known at the highest threshold which lets at least ``kept`` of the known ones pass.

    NaN where one kind is missing. A picture passes when its score is at least the threshold.
    """
    score_N, unknown_N = found_N2.unbind(1)
    known_M, unknown_U = score_N[unknown_N == 0], score_N[unknown_N != 0]
    if not len(known_M) or not len(unknown_U):
        return math.nan
    place = math.ceil(kept * len(known_M) - 1e-9)
    threshold = known_M.sort(descending=True).values[max(place, 1) - 1]
    return float((unknown_U >= threshold).double().mean())


def aupr(found_N2: Tensor) -> float:
    """Average precision at finding the unknown pictures (lowest scores first), scikit-learn's: Σ (recall_i − recall_{i−1}) · precision_i.

    Pictures of one score come together. NaN where one kind is missing.
    """
    score_N, unknown_N = found_N2.unbind(1)
    total = float(unknown_N.sum())
    if not total or total == len(unknown_N):
        return math.nan
    _, run_N, size_R = score_N.unique(return_inverse=True, return_counts=True)
    found_R = torch.zeros(len(size_R), dtype=torch.float64).index_add_(0, run_N, unknown_N.double())
    return float((found_R * found_R.cumsum(0) / size_R.cumsum(0)).sum() / total)
