"""What a similarity is worth: a probability that the found picture is what was asked for, so that "no good match" exists.

A cosine means little by itself: some texts are near to every picture, some pictures near to every text, and the best of a million is high
by chance. For a query ``q`` and a found picture ``x`` among ``n`` two things are held against a background:

    z      = max over two crowds of (q·x − mean q·y) / deviation of q·y
             crowds: the pictures y of the index itself (where it has at least 50), and background drawings
    margin = q·x − max over the bank of b·x
             bank: what else the picture could be: names of everyday things for words, other drawings for pictures
    score  = 1 / (1 + exp(−(a − ln(max(n, n₀) / n₀) + b z + c margin)))

``z`` is high where the query fits this picture better than it fits pictures in general; the margin where the picture fits this query
better than it fits other queries (as in the inverted softmax of Smith et al., ICLR 2017, with the maximum for the sum). Of the two crowds
the one counts in which the query stands out more: words that describe every picture of a folder do not stand out in it, yet are right.
The term in ``n``: how many pictures are right does not grow with the index, so each is right with odds that fall as 1/n.

``a, b, c`` are a logistic regression, fitted when an index is built: names and drawings that ``mini`` was not trained on are searched for
among ``n₀`` such drawings, half of the concepts being left out, so that half of the queries have no answer. Right and wrong answers that
people mark continue that regression, with the rehearsed one as the prior (:func:`fit`).

A query of several parts is right where all parts are: ``score = Π score_iᵂ · Π (1 − score_j)^|w_j|`` with W = w_i / Σ w over what is
asked for (weights above 0) and j over what is asked away (weights below 0).

Shapes: Q queries or P parts, N pictures, H hits, M texts or pictures of the bank, D width, F = 3 (1, z, margin).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ENOUGH = 50
SAMPLE = 4096
FLOOR = 1e-6
STEPS = 50


@dataclass(frozen=True, slots=True)
class Crowd:
    """Mean (D,) and covariance (D, D) of unit rows: enough for mean and deviation of any query's similarity to them."""

    mean_D: np.ndarray
    covariance_DD: np.ndarray

    @classmethod
    def of(cls, rows_ND: np.ndarray) -> Crowd:
        """Moments of rows; of many, those of about 4,096 that lie evenly among them."""
        rows_ND = np.asarray(rows_ND[:: max(len(rows_ND) // SAMPLE, 1)], dtype=np.float64)
        centred_ND = rows_ND - rows_ND.mean(0)
        return cls(rows_ND.mean(0), centred_ND.T @ centred_ND / len(rows_ND))

    def deviation(self, query_QD: np.ndarray) -> np.ndarray:
        """Standard deviation (Q,) of each query's similarity to the crowd."""
        return np.sqrt(np.maximum(np.einsum("qd,de,qe->q", query_QD, self.covariance_DD, query_QD), FLOOR))

    def z(self, query_QD: np.ndarray, similarity_QH: np.ndarray) -> np.ndarray:
        """Similarities as deviations above the crowd's mean, (Q, H)."""
        return (similarity_QH - (query_QD @ self.mean_D)[:, None]) / self.deviation(query_QD)[:, None]


def features(query_QD: np.ndarray, hit_HD: np.ndarray, crowds: list[Crowd], bank_MD: np.ndarray) -> np.ndarray:
    """``(1, z, margin)`` of every query and hit, (Q, H, 3), float64."""
    similarity_QH = (query_QD @ hit_HD.T).astype(np.float64)
    z_QH = np.max([crowd.z(query_QD, similarity_QH) for crowd in crowds], axis=0)
    rival_H = (hit_HD @ bank_MD.T).max(axis=1)
    return np.stack([np.ones_like(z_QH), z_QH, similarity_QH - rival_H], axis=-1)


@dataclass(frozen=True, slots=True)
class Calibration:
    """``a, b, c`` of the module's formula.

    Args:
        weights_F: intercept, weight of z, weight of the margin.
        rehearsed: n₀, pictures that were searched when they were fitted.
    """

    weights_F: np.ndarray
    rehearsed: int

    def shift(self, count: int) -> float:
        """The term in ``n``, 0 or below."""
        return -float(np.log(max(count, self.rehearsed) / self.rehearsed))

    def probability(self, features_XF: np.ndarray, count: int) -> np.ndarray:
        """Scores 0…1 of features (…, 3) in an index of ``count`` pictures."""
        return logistic(features_XF @ self.weights_F + self.shift(count))

    def with_feedback(self, features_NF: np.ndarray, right_N: np.ndarray, shift_N: np.ndarray) -> Calibration:
        """The same after people have said right (1) or wrong (0) of N answers."""
        return Calibration(fit(features_NF, right_N, self.weights_F, spread(self.weights_F), shift_N), self.rehearsed)


def spread(weights_F: np.ndarray) -> np.ndarray:
    """How far feedback may move the weights with ease: the intercept by 1.5, the others by a third of themselves (prior deviations)."""
    return np.array([1.5, *np.maximum(np.abs(weights_F[1:]) / 3, 0.1)])


def logistic(logit: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(−x)) without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * logit))


def fit(
    features_NF: np.ndarray, right_N: np.ndarray, prior_F: np.ndarray, spread_F: np.ndarray, shift_N: np.ndarray | float = 0.0
) -> np.ndarray:
    """Logistic regression with a normal prior, the most probable weights (F,), by Newton's method with halved steps.

    minimise Σ ln(1 + exp(−(2y − 1) (shift + x·w))) + ½ Σ ((w − prior) / spread)²
    """
    weights_F, precision_F = prior_F.astype(np.float64).copy(), 1.0 / np.square(spread_F)
    sign_N = 2.0 * right_N.astype(np.float64) - 1.0

    def loss(at_F: np.ndarray) -> float:
        logit_N = features_NF @ at_F + shift_N
        return float(np.logaddexp(0.0, -sign_N * logit_N).sum() + 0.5 * (precision_F * np.square(at_F - prior_F)).sum())

    for _ in range(STEPS):
        chance_N = logistic(features_NF @ weights_F + shift_N)
        slope_F = features_NF.T @ (chance_N - right_N) + precision_F * (weights_F - prior_F)
        curve_FF = (features_NF.T * (chance_N * (1.0 - chance_N))) @ features_NF + np.diag(precision_F)
        step_F = np.linalg.solve(curve_FF, slope_F)
        size = 1.0
        while size > 1e-6 and loss(weights_F - size * step_F) > loss(weights_F):
            size /= 2.0
        weights_F = weights_F - size * step_F
        if np.abs(step_F).max() < 1e-9:
            break
    return weights_F


def together(score_PH: np.ndarray, weight_P: np.ndarray) -> np.ndarray:
    """Scores (H,) of several parts: weighted geometric mean of what is asked for, times (1 − score)^|w| of what is asked away."""
    wanted_P = np.maximum(weight_P, 0.0)
    share_P = wanted_P / wanted_P.sum()
    log_PH = np.log(np.clip(score_PH, 1e-12, 1.0))
    away_PH = np.log1p(-np.clip(score_PH, 0.0, 1.0 - 1e-12))
    return np.exp(share_P @ log_PH + np.maximum(-weight_P, 0.0) @ away_PH)
