"""GDA for CLIP in float64: class means and one covariance as loops over pictures and classes, the inverse by numpy."""

from __future__ import annotations

import math

import numpy as np


def logits(
    image, label, text, scale, rows, *, alpha, prior="uniform", covariance="pictures", neighbours=64, rounds=0, pool=()
):  # fmt: skip
    """``logits[n][k]`` of ``rows``; plain lists of floats."""
    every, classes = [*image, *pool], len(text)
    share = [[float(label[i] == k) if i < len(image) else 0.0 for k in range(classes)] for i in range(len(every))]
    used = len(image)
    for round_ in range(rounds + 1):
        means = [mean_of(k, every[:used], share, text, image, neighbours) for k in range(classes)]
        precision = precision_of(every[:used], share, means, covariance)
        if round_ < rounds:
            found = answers(pool, text, scale, means, precision, prior_of(label, classes, prior), alpha)
            for u, row in enumerate(found):
                top = max(row)
                total = sum(math.exp(x - top) for x in row)
                share[len(image) + u] = [math.exp(x - top) / total for x in row]
            used = len(every)
    return answers(rows, text, scale, means, precision, prior_of(label, classes, prior), alpha)


def prior_of(label, classes, prior):
    """Of each class."""
    if prior == "uniform":
        return [1 / classes] * classes
    count = [max(0.5, label.count(k)) for k in range(classes)]
    return [c / sum(count) for c in count]


def mean_of(k, every, share, text, image, neighbours):
    """The class's mean row, or that of its stand-ins."""
    mass = sum(share[i][k] for i in range(len(every)))
    width = len(text[0])
    if mass > 0:
        return [sum(share[i][k] * every[i][d] for i in range(len(every))) / mass for d in range(width)]
    near = sorted(image, key=lambda x: -sum(a * b for a, b in zip(x, text[k], strict=True)))[:neighbours]
    near += [text[k]] * 16
    return [sum(x[d] for x in near) / len(near) for d in range(width)]


def precision_of(every, share, means, covariance):
    """The shrunk inverse covariance."""
    width, classes, count = len(means[0]), len(means), len(every)
    mass = [sum(share[i][k] for i in range(count)) for k in range(classes)]
    held = sum(m > 0 for m in mass)
    cov = np.zeros((width, width))
    for i, x in enumerate(every):
        for k in range(classes):
            if share[i][k] == 0:
                continue
            weight = share[i][k] / (count - 1) if covariance == "pictures" else share[i][k] / mass[k] / held
            away = np.array(x) - np.array(means[k])
            for a in range(width):
                for b in range(width):
                    cov[a, b] += weight * away[a] * away[b]
    if np.trace(cov) == 0:
        return np.eye(width)
    return width * np.linalg.inv((count - 1) * cov + np.trace(cov) * np.eye(width))


def answers(rows, text, scale, means, precision, prior, alpha):
    """Zero-shot plus Gaussian logits."""
    found = []
    for x in rows:
        found.append([])
        for k, mean in enumerate(means):
            weight = precision @ np.array(mean)
            gaussian = float(np.array(x) @ weight) + math.log(prior[k]) - float(np.array(mean) @ weight) / 2
            found[-1].append(scale * sum(a * b for a, b in zip(x, text[k], strict=True)) + alpha * gaussian)
    return found
