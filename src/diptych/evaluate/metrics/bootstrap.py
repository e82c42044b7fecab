"""95 % percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3) over the right unit.

What is resampled is the unit that was sampled: images where they are independent, concepts where one concept was drawn by several
artists, classes where the number is a mean over classes. With units of several examples the whole unit is drawn (cluster bootstrap)
and the statistic is again a ratio of sums:

    for b in range(draws):
        units = [random unit for _ in all units]
        statistic[b] = sum(value in units) / sum(weight in units)
    low, high = quantiles(statistic, 2.5 %, 97.5 %)

Shapes: N examples, U units, S draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from diptych.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Estimate:
    """A ratio of sums (a mean where no weights are given), its percentile interval and the number of units resampled.

    Args:
        draws_S: the number on each resample, NaN where it has none; None where it was not kept. Equal generators resample equal units
            alike, so that the draws of two models on the same examples can be compared one by one (:func:`apart`).
    """

    value: float
    interval: tuple[float, float]
    n: int
    draws_S: Tensor | None = field(default=None, repr=False, compare=False)


def mean(
    value_N: Tensor,
    generator: Generator,
    *,
    unit_N: Tensor | None = None,
    weight_N: Tensor | None = None,
    draws: int = 1000,
    level: float = 0.95,
    share: bool = False,
) -> Estimate:
    """Σ value / Σ weight with its percentile bootstrap interval.

    Args:
        value_N: one value an example (a hit, a difference of hits, a hit times a weight).
        generator: draws the units; the same seed gives the same interval.
        unit_N: int64; examples with equal values are resampled together. None: each example is a unit.
        weight_N: what the values are divided by; None: 1 each, so the statistic is the mean. Draws whose weights sum to 0 have no
            value and are left out.
        draws: how many resamples.
        level: share of the resamples inside the interval, 0 < level < 1.
        share: the values are shares (hits, retention). Where all units are misses or all are hits every resample is the same and would
            claim certainty; the open end is then the exact binomial bound (Clopper and Pearson, Biometrika 26, 1934).

    Raises:
        UsageError: there are no examples, the weights sum to 0, or draws or level are out of range.
    """
    if draws < 1 or not 0 < level < 1:
        raise UsageError("bootstrap", f"draws={draws}, level={level}", "Give at least 1 draw and a level between 0 and 1")
    weight_N = torch.ones(len(value_N), dtype=torch.float64) if weight_N is None else weight_N.double()
    if not len(value_N) or float(weight_N.sum()) == 0:
        raise UsageError("bootstrap", "nothing to average: no examples, or weights that sum to 0", "Evaluate on a set that has examples")
    sums_U2 = torch.stack([value_N.double(), weight_N], 1)
    if unit_N is not None:
        _, index_N = unit_N.unique(return_inverse=True)
        sums_U2 = torch.zeros(int(index_N.max()) + 1, 2, dtype=torch.float64).index_add_(0, index_N, sums_U2)
    total_2 = sums_U2.sum(0)
    statistic_S = _resample(sums_U2, generator, draws)
    tail = (1 - level) / 2
    bounds = torch.quantile(statistic_S, torch.tensor([tail, 1 - tail], dtype=torch.float64))
    value, low, high, units = float(total_2[0] / total_2[1]), float(bounds[0]), float(bounds[1]), len(sums_U2)
    if share and low == high and value in (0.0, 1.0):
        reach = tail ** (1 / int((sums_U2[:, 1] != 0).sum()))
        low, high = (0.0, 1 - reach) if value == 0 else (reach, 1.0)
    return Estimate(value, (low, high), units, statistic_S)


def difference(
    value_N: Tensor, other_N: Tensor, generator: Generator, *, unit_N: Tensor | None = None, draws: int = 1000, level: float = 0.95
) -> Estimate:
    """Mean of ``value − other`` on the same examples: one resample is used for both, so what they share cancels."""
    if value_N.shape != other_N.shape:
        raise UsageError("paired difference", f"{len(value_N)} against {len(other_N)} examples", "Evaluate both models on the same set")
    return mean(value_N.double() - other_N.double(), generator, unit_N=unit_N, draws=draws, level=level)


def apart(one: Estimate, other: Estimate, *, level: float = 0.95) -> Estimate:
    """``one − other``, with the percentile interval of the differences of their draws, draw by draw.

    Raises:
        UsageError: their draws were not kept, are not as many, or more than half of the differences have no value.
    """
    if one.draws_S is None or other.draws_S is None or len(one.draws_S) != len(other.draws_S) or one.n != other.n:
        raise UsageError("paired difference", "draws that are not paired", "Evaluate both models on the same set, with equal generators")
    draw_S = one.draws_S.double() - other.draws_S.double()
    known_S = draw_S[draw_S.isfinite()]
    if len(known_S) * 2 < len(draw_S):
        raise UsageError("bootstrap", f"{len(draw_S) - len(known_S)} of {len(draw_S)} draws have no value", "Evaluate on more examples")
    tail = (1 - level) / 2
    low, high = torch.quantile(known_S, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Estimate(one.value - other.value, (low, high), one.n, draw_S)


def kept(
    value_N: Tensor, other_N: Tensor, generator: Generator, *, unit_N: Tensor | None = None, draws: int = 1000, level: float = 0.95
) -> Estimate:
    """Of what ``other`` got right, the share that ``value`` still gets right: Σ value · other / Σ other (values in 0 … 1)."""
    if value_N.shape != other_N.shape:
        raise UsageError("retention", f"{len(value_N)} against {len(other_N)} examples", "Evaluate both models on the same set")
    return mean(value_N.double() * other_N.double(), generator, unit_N=unit_N, weight_N=other_N, draws=draws, level=level, share=True)


def statistic(
    value_N: Tensor,
    of: Callable[[Tensor], float],
    generator: Generator,
    *,
    other_N: Tensor | None = None,
    unit_N: Tensor | None = None,
    draws: int = 200,
    level: float = 0.95,
) -> Estimate:
    """``of(value_N)`` for a metric that is no mean, with the percentile interval of ``of`` on resampled examples.

    Args:
        value_N: one row an example, any further dimensions.
        of: from rows to the number; NaN where resampled rows give none (one class is missing, say), and those draws are left out.
        other_N: a second model's rows of the same examples: the estimate is then ``of(value) − of(other)``, each draw taking the same
            examples from both.
        unit_N: as in :func:`mean`.

    Raises:
        UsageError: there are no examples, the examples themselves or more than half of the draws have no value, or shapes disagree.
    """
    if draws < 1 or not 0 < level < 1 or not len(value_N):
        raise UsageError("bootstrap", f"{len(value_N)} examples, draws={draws}, level={level}", "Give examples and at least 1 draw")
    if other_N is not None and other_N.shape != value_N.shape:
        raise UsageError("paired difference", f"{len(value_N)} against {len(other_N)} examples", "Evaluate both models on the same set")

    def number(index: Tensor | slice) -> float:
        return of(value_N[index]) - (0.0 if other_N is None else of(other_N[index]))

    unit_N = torch.arange(len(value_N)) if unit_N is None else unit_N.unique(return_inverse=True)[1]
    order_N, count_U = unit_N.argsort(stable=True), torch.bincount(unit_N)
    start_U = count_U.cumsum(0) - count_U
    found = []
    for _ in range(draws):
        unit_V = torch.randint(len(count_U), (len(count_U),), generator=generator)
        size_V = count_U[unit_V]
        within_M = torch.arange(int(size_V.sum())) - torch.repeat_interleave(size_V.cumsum(0) - size_V, size_V)
        found.append(number(order_N[torch.repeat_interleave(start_U[unit_V], size_V) + within_M]))
    value, kept = number(slice(None)), [one for one in found if math.isfinite(one)]
    if not math.isfinite(value) or len(kept) * 2 < draws:
        raise UsageError("bootstrap", f"{draws - len(kept)} of {draws} resamples have no value", "Evaluate on a set with more examples")
    tail = (1 - level) / 2
    low, high = torch.quantile(torch.tensor(kept, dtype=torch.float64), torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Estimate(value, (low, high), len(count_U), torch.tensor(found, dtype=torch.float64))


def _resample(sums_U2: Tensor, generator: Generator, draws: int, at_once: int = 1 << 22) -> Tensor:
    """The statistic of each resample that has weight (float64, at most ``draws`` of them), in bounded memory."""
    units = len(sums_U2)
    value_U, weight_U = sums_U2.unbind(1)
    value_U, weight_U = value_U.contiguous(), weight_U.contiguous()
    even = bool((weight_U == weight_U[0]).all())
    parts = []
    chunk = max(1, at_once // units)
    for start in range(0, draws, chunk):
        index_SU = torch.randint(units, (min(chunk, draws - start), units), generator=generator)
        value_S = value_U[index_SU].sum(1)
        weight_S = torch.full_like(value_S, float(weight_U[0]) * units) if even else weight_U[index_SU].sum(1)
        parts.append((value_S / weight_S)[weight_S != 0])
    return torch.cat(parts)
