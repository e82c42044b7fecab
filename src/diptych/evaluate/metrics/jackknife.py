"""Delete-a-group jackknife: intervals of numbers that a bootstrap would bias (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
chapter 11; groups as in Wolter, Introduction to Variance Estimation, 2007, section 4.2).

A bootstrap resample holds only about 63 % of the examples, some of them several times. A rank then sees fewer different rows, and a
similarity of similarities sees pairs of equal rows, so the resamples lie to one side of the number. Leaving out one group at a time
repeats nothing:

    for j in range(groups):
        left[j] = statistic(all examples that are not in group j)
    variance = (groups − 1) / groups · Σ (left[j] − mean(left))²
    interval = statistic(all) ± t(groups − 1) · √variance

Two models on the same examples, dealt to the same groups, are compared by draws: with normal z[s, j], the same for both, draw s is

    statistic(all) + t(groups − 1) / 1.96 · √((groups − 1) / groups) · Σ_j z[s, j] (left[j] − mean(left))

Draws have the jackknife's own spread, and the difference of two models' draws that of the jackknife of the difference, so what both share
cancels (the multiplier form of resampling: van der Vaart and Wellner, Weak Convergence and Empirical Processes, 1996, section 2.9).
Shapes: N examples, U units, G groups, S draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import torch
from torch import Generator, Tensor

from diptych.core.errors import UsageError
from diptych.evaluate.metrics.bootstrap import Estimate

GROUPS, DRAWS = 20, 1000


def grouped(
    statistic: Callable[[Tensor], float],
    count: int,
    generator: Generator,
    *,
    unit_N: Tensor | None = None,
    groups: int = GROUPS,
    level: float = 0.95,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    draws: int = DRAWS,
) -> Estimate:
    """``statistic`` of all examples with its jackknife interval, and draws around it.

    Args:
        statistic: from int64 indices of examples to the number; smooth in the examples (no median, no maximum).
        count: N.
        generator: deals the units to the groups, then draws; give two models equal generators to have their draws paired.
        unit_N: int64; examples with equal values are left out together. None: each on its own.
        groups: how many; as many as units where there are fewer.
        level: of the interval, 0 < level < 1.
        bounds: what the number cannot leave; the interval is cut there, draws are not.
        draws: how many.

    Raises:
        UsageError: fewer than two units, or the statistic has no value.
    """
    unit_N = torch.arange(count) if unit_N is None else unit_N.unique(return_inverse=True)[1]
    units = int(unit_N.max()) + 1 if count else 0
    if units < 2 or not 0 < level < 1:
        raise UsageError("jackknife", f"{units} units, level={level}", "Evaluate on a set with at least two units")
    groups = min(groups, units)
    dealt_U = torch.arange(units)[torch.randperm(units, generator=generator).argsort()] % groups
    group_N = dealt_U[unit_N]
    value = statistic(torch.arange(count))
    left_G = torch.tensor([statistic((group_N != j).nonzero()[:, 0]) for j in range(groups)], dtype=torch.float64)
    if not math.isfinite(value) or not bool(left_G.isfinite().all()):
        raise UsageError("jackknife", "the number has no value on all or on some of the examples", "Evaluate on a set with more examples")
    part_G = math.sqrt((groups - 1) / groups) * (left_G - left_G.mean())
    wide = student(groups - 1, (1 + level) / 2)
    reach = wide * float(part_G.norm())
    low, high = max(value - reach, bounds[0]), min(value + reach, bounds[1])
    normal_SG = torch.randn(draws, groups, generator=generator, dtype=torch.float64)
    draw_S = value + wide / NormalDist().inv_cdf((1 + level) / 2) * (normal_SG @ part_G)
    return Estimate(value, (min(low, value), max(high, value)), units, draw_S)


def student(freedom: int, level: float) -> float:
    """The ``level`` quantile of Student's t: exact for 1 and 2 degrees of freedom, beyond them to 1 % (4) and 0.01 % (19) by the
    Cornish–Fisher series (Abramowitz and Stegun, 26.7.5)."""
    if freedom == 1:
        return math.tan(math.pi * (level - 0.5))
    if freedom == 2:
        return (2 * level - 1) * math.sqrt(2 / (4 * level * (1 - level)))
    z, v = NormalDist().inv_cdf(level), freedom
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / v ** (i + 1) for i, term in enumerate(terms))
