"""Main metrics that the makers of a public set chose and that are no mean over its pictures; a protocol adds one where the set names it.

Shapes: N examples, K captions and pictures together.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diptych.core.errors import UsageError
from diptych.evaluate.material import Table
from diptych.evaluate.metrics import classification
from diptych.evaluate.outcome import Metric


def in_front(metrics: Sequence[Metric], name: str) -> tuple[Metric, ...]:
    """``metrics`` with the one called ``name``, where there is one, as the first."""
    return tuple(sorted(metrics, key=lambda metric: metric.name != name))


def of_classes(name: str, table: Table, top1_N: Tensor, top5_N: Tensor, predicted_N: Tensor, chance: tuple[float, float]) -> list[Metric]:
    """``f1_macro``, ``worst_group`` or ``worst_group_top5``; nothing for any other name.

    Args:
        chance: of top-1 and top-5; for the worst group it is that of any group.

    Raises:
        UsageError: the groups are asked for, and no sample names one.
    """
    if name == "f1_macro":
        guess = classification.f1_macro_chance(table.label_N, round(1 / chance[0]))
        pair_N2 = torch.stack([table.label_N, predicted_N], 1)
        return [Metric(name, pair_N2, table.group_N, guess, hits=False, of=classification.f1_macro)]
    if name not in ("worst_group", "worst_group_top5"):
        return []
    names = sorted(set(table.part) - {""})
    if not names:
        raise UsageError(f"metric {name!r}", "no sample names the group that it belongs to", "Export the set with its metadata")
    number = {part: i for i, part in enumerate(names)} | {"": -1}
    group_N = torch.tensor([number[part] for part in table.part], dtype=torch.float64)
    wide = name.endswith("top5")
    value_N2 = torch.stack([top5_N if wide else top1_N, group_N], 1)
    return [Metric(name, value_N2, table.group_N, chance[wide], hits=False, of=classification.worst_group)]


def both_ways(name: str, to_image: Metric, to_text: Metric) -> list[Metric]:
    """``mean_r@1``: the mean of two recalls, of captions and of pictures, resampled together; nothing for any other name."""
    if name != "mean_r@1" or to_image.unit_N is None or to_text.unit_N is None:
        return []
    sides = [torch.stack([metric.value_N, torch.full_like(metric.value_N, side)], 1) for side, metric in enumerate((to_image, to_text))]
    chance = None if to_image.chance is None or to_text.chance is None else (to_image.chance + to_text.chance) / 2
    return [Metric(name, torch.cat(sides), torch.cat([to_image.unit_N, to_text.unit_N]), chance, hits=False, of=mean_of_sides)]


def mean_of_sides(value_K2: Tensor) -> float:
    """The mean of the means of two sides; a value and its side, 0 or 1, a row."""
    value_K, side_K = value_K2.unbind(1)
    return (float(value_K[side_K == 0].mean()) + float(value_K[side_K == 1].mean())) / 2
