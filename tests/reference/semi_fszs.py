"""FlexMatch's thresholds and the divergence of predicted frequencies in float64."""

from __future__ import annotations

import math


def chances(logits):
    """Softmax."""
    top = max(logits)
    exp = [math.exp(x - top) for x in logits]
    return [x / sum(exp) for x in exp]


def levels(known, classes, threshold):
    """Threshold of each class; −1 in ``known`` is none."""
    count = [sum(one == k for one in known) for k in range(classes)]
    most = max(*count, sum(one == -1 for one in known))
    return [threshold * (c / most) / (2 - c / most) for c in count]


def divergence(weak, prior):
    """Of the mean prediction from ``prior``."""
    share = [sum(column) / len(weak) for column in zip(*(chances(row) for row in weak), strict=True)]
    return sum(s * math.log(s / p) for s, p in zip(share, prior, strict=True))
