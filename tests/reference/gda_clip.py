"""GDA for CLIP in float64: class means and one covariance as loops, the inverse by numpy."""

from __future__ import annotations

import math

import numpy as np


def logits(image, label, text, scale, rows, *, alpha, prior="uniform"):
    """``logits[n][k]`` of ``rows``; plain lists of floats."""
    width, count, classes = len(image[0]), len(image), len(text)
    means = []
    for k in range(classes):
        mine = [x for x, y in zip(image, label, strict=True) if y == k] or [text[k]]
        means.append([sum(column) / len(mine) for column in zip(*mine, strict=True)])
    cov = np.zeros((width, width))
    for x, y in zip(image, label, strict=True):
        away = np.array(x) - np.array(means[y])
        for i in range(width):
            for j in range(width):
                cov[i, j] += away[i] * away[j] / (count - 1)
    if np.trace(cov) == 0:
        precision = np.eye(width)
    else:
        precision = width * np.linalg.inv((count - 1) * cov + np.trace(cov) * np.eye(width))
    found = []
    for x in rows:
        found.append([])
        for k in range(classes):
            weight = precision @ np.array(means[k])
            share = 1 / classes if prior == "uniform" else max(0.5, label.count(k)) / sum(max(0.5, label.count(c)) for c in range(classes))
            gaussian = float(np.array(x) @ weight) + math.log(share) - float(np.array(means[k]) @ weight) / 2
            found[-1].append(scale * sum(a * b for a, b in zip(x, text[k], strict=True)) + alpha * gaussian)
    return found
