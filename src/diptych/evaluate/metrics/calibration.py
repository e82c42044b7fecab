"""Is a model as sure as it is right? Calibration errors, proper scores, risk against coverage, and the temperature that mends most of it.

Sources: Guo et al., On Calibration of Modern Neural Networks (arXiv:1706.04599), ECE and temperature scaling; Nguyen and O'Connor (EMNLP
2015), bins of equal mass; Kumar et al., Verified Uncertainty Calibration (arXiv:1909.10155), the debiased squared error; Brier
(Monthly Weather Review 78, 1950); Geifman and El-Yaniv, Selective Classification for Deep Neural Networks (arXiv:1705.08500) and Geifman et
al., Bias-Reduced Uncertainty Estimation (arXiv:1805.08206), AURC; Romano et al. (arXiv:2006.02544) and Vovk (Machine Learning 92, 2013),
thresholds of each class with a guarantee.

Shapes: N examples, K classes, B bins. Confidence is the largest probability; a hit is 1.0 where the likeliest class is the right one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diptych.core.errors import UsageError

BINS = 15


def confidence(logit_NK: Tensor, label_N: Tensor) -> Tensor:
    """``(N, 2)`` float64: the largest probability of softmax and whether its class (the lowest index where several tie) is right."""
    best_N, at_N = logit_NK.max(1)
    sure_N = (best_N.double() - logit_NK.double().logsumexp(1)).exp()
    return torch.stack([sure_N, (at_N == label_N).double()], 1)


def bins(sure_N2: Tensor, count: int = BINS) -> Tensor:
    """``(B, 3)``: mean confidence, share of hits and number of examples in bins of equal mass, B ≤ ``count``.

    The examples are put in order of confidence and cut into runs whose sizes differ by at most one, as ``numpy.array_split`` cuts them.
    Examples of equal confidence stay in the order given, so a bin boundary may part them.
    """
    order_N = sure_N2[:, 0].argsort(stable=True)
    parts = [part for part in sure_N2[order_N].tensor_split(min(count, len(sure_N2))) if len(part)]
    return torch.stack([torch.cat([part.mean(0), part.new_tensor([len(part)])]) for part in parts])


def ece(sure_N2: Tensor, count: int = BINS) -> float:
    """Expected calibration error with bins of equal mass: Σ_b n_b/N · |hits_b − confidence_b|, in 0 … 1."""
    mean_B, hit_B, size_B = bins(sure_N2, count).unbind(1)
    return float((size_B * (hit_B - mean_B).abs()).sum() / size_B.sum())


def rms_error(sure_N2: Tensor, count: int = BINS) -> float:
    """Root mean square calibration error, debiased, in 0 … 1.

    A bin of n examples whose true share of hits is a shows a share that scatters with variance a(1 − a)/n, which makes any model look worse
    calibrated than it is. The unbiased estimate of that variance, hits(1 − hits)/(n − 1), is taken off each squared gap (Kumar et al.,
    definition 4.1); a sum below 0 is 0. Bins of one example have no estimate and are left out.
    """
    mean_B, hit_B, size_B = bins(sure_N2, count).unbind(1)
    keep_B = size_B > 1
    mean_B, hit_B, size_B = mean_B[keep_B], hit_B[keep_B], size_B[keep_B]
    if not len(size_B):
        return math.nan
    gap_B = (hit_B - mean_B).square() - hit_B * (1 - hit_B) / (size_B - 1)
    return math.sqrt(max(0.0, float((size_B * gap_B).sum() / size_B.sum())))


def nll(logit_NK: Tensor, label_N: Tensor) -> Tensor:
    """−log of the right class's probability, nats, float64 ``N``."""
    return torch.nn.functional.cross_entropy(logit_NK.double(), label_N, reduction="none")


def brier(logit_NK: Tensor, label_N: Tensor) -> Tensor:
    """Σ_k (p_k − [k is right])², in 0 … 2, float64 ``N``."""
    p_NK = logit_NK.double().softmax(1)
    own_N = p_NK.gather(1, label_N[:, None])[:, 0]
    return p_NK.square().sum(1) - 2 * own_N + 1


def risk_coverage(sure_N2: Tensor) -> Tensor:
    """``risk_N``: the share of wrong answers among the n surest, for n = 1 … N.

    Examples that are equally sure share their wrong answers evenly, so the curve does not depend on the order in which they were given.
    """
    ordered_N2 = sure_N2[sure_N2[:, 0].argsort(descending=True, stable=True)]
    _, run_N, size_R = ordered_N2[:, 0].unique_consecutive(return_inverse=True, return_counts=True)
    wrong_R = torch.zeros(len(size_R), dtype=torch.float64).index_add_(0, run_N, 1 - ordered_N2[:, 1].double())
    return (wrong_R / size_R)[run_N].cumsum(0) / torch.arange(1, len(run_N) + 1)


def aurc(sure_N2: Tensor) -> float:
    """Area under the risk–coverage curve, the mean of :func:`risk_coverage`, in 0 … 1; the error rate where confidence says nothing."""
    return float(risk_coverage(sure_N2).mean())


def selective(sure_N2: Tensor, coverage: float = 0.8) -> float:
    """Share of right answers among the ⌈coverage · N⌉ surest."""
    return 1 - float(risk_coverage(sure_N2)[max(math.ceil(coverage * len(sure_N2)) - 1, 0)])


def temperature(logit_NK: Tensor, label_N: Tensor, low: float = 0.01, high: float = 100.0, steps: int = 60) -> float:
    """The T in ``low`` … ``high`` that makes softmax(logits / T) likeliest (Guo et al., section 4.2).

    The loss is convex in 1/T, so its slope Σ_n (Σ_k p_k z_k − z_y) has one sign on each side of the minimum, and halving the interval (of
    log T) finds it. An end of the interval is given where the minimum lies beyond: every example is right (T → 0), or none is.

    Raises:
        UsageError: there are no examples.
    """
    if not len(logit_NK):
        raise UsageError("temperature", "there are no examples to fit it on", "Give a calibration split with labels")
    logit_NK = logit_NK.double()
    logit_NK = logit_NK - logit_NK.amax(1, keepdim=True)
    own_N = logit_NK.gather(1, label_N[:, None])[:, 0]
    cold, hot = math.log(low), math.log(high)
    for _ in range(steps):
        middle = (cold + hot) / 2
        p_NK = (logit_NK * math.exp(-middle)).softmax(1)
        rises = float(((p_NK * logit_NK).sum(1) - own_N).sum()) > 0  # the loss, with 1/T
        cold, hot = (middle, hot) if rises else (cold, middle)
    return math.exp((cold + hot) / 2)


def thresholds(p_NK: Tensor, label_N: Tensor, keep: float = 0.9) -> tuple[Tensor, Tensor]:
    """For each class the probability from which its name is kept: a new picture of the class keeps it with probability ``keep`` or more.

    With n examples of class k, t_k is the ⌊(1 − keep)(n + 1)⌋-th smallest of their own probabilities p_k (class-conditional conformal
    prediction). Where that is the 0-th, n is too small for the promise, and the class takes the threshold of all examples together.

    Returns:
        ``(threshold_K, own_K)``: float64 thresholds, and which classes had enough examples for their own.

    Raises:
        UsageError: ``keep`` is not between 0 and 1, or even all examples together are too few.
    """
    if not 0 < keep < 1:
        raise UsageError(f"keep={keep}", "it is a share between 0 and 1", "Give for example 0.9")
    own_N = p_NK.double().gather(1, label_N[:, None])[:, 0]
    pooled = _rank(own_N, keep)
    if pooled is None:
        why = f"{len(own_N)} examples cannot promise {keep:.0%}"
        raise UsageError("thresholds", why, f"Give at least {needed(keep)}, or a smaller keep")
    threshold_K = torch.full((p_NK.shape[1],), pooled, dtype=torch.float64)
    own_K = torch.zeros(p_NK.shape[1], dtype=torch.bool)
    for k in label_N.unique().tolist():
        found = _rank(own_N[label_N == k], keep)
        if found is not None:
            threshold_K[k], own_K[k] = found, True
    return threshold_K, own_K


def needed(keep: float) -> int:
    """How many examples it takes to promise ``keep``."""
    return math.ceil(1 / (1 - keep) - 1 - 1e-9)


def _rank(value_N: Tensor, keep: float) -> float | None:
    place = math.floor((1 - keep) * (len(value_N) + 1) + 1e-9)
    return float(value_N.sort().values[place - 1]) if place else None
