"""REAL in float64: counting by moving along each caption, retrieval by sorting, and AdamW on the linear head by hand."""

from __future__ import annotations

import math
import re


def words(text):
    return re.findall(r"\w+", text.lower())


def says(caption, phrase):
    """Whether the phrase's words stand in a row in the caption."""
    inside, run = words(caption), words(phrase)
    return any(inside[i : i + len(run)] == run for i in range(len(inside) - len(run) + 1))


def counts(phrases, captions):
    return {phrase: sum(says(caption, phrase) for caption in captions) for phrase in phrases}


def retrieved(captions, names, similar, per_class):
    """``(picture, class)`` pairs; ``captions[s]`` are picture s's, ``similar(caption, k)`` orders a class's finds."""
    pairs = []
    for k, some in enumerate(names):
        finds = []
        for s, told in enumerate(captions):
            fitting = [similar(caption, k) for caption in told if any(says(caption, name) for name in some)]
            if fitting:
                finds.append((-max(fitting), s))
        pairs += [(s, k) for _, s in sorted(finds)[:per_class]]
    return pairs


def trained(weight, batches, scale, lr, steps, decay=0.01, betas=(0.9, 0.999), eps=1e-8):
    """The weights after AdamW on cross-entropy; ``batches`` are lists of ``(row, class)``, learning rates fall along a cosine."""
    weight = [list(row) for row in weight]
    first = [[0.0] * len(row) for row in weight]
    second = [[0.0] * len(row) for row in weight]
    for step, batch in enumerate(batches, 1):
        rate = lr * (1 + math.cos(math.pi * (step - 1) / steps)) / 2
        slope = [[0.0] * len(row) for row in weight]
        for x, y in batch:
            value = [scale * sum(a * b for a, b in zip(x, row, strict=True)) for row in weight]
            top = max(value)
            share = [math.exp(v - top) for v in value]
            for k in range(len(weight)):
                away = share[k] / sum(share) - (k == y)
                slope[k] = [g + scale * away * a / len(batch) for g, a in zip(slope[k], x, strict=True)]
        for k, row in enumerate(weight):
            for d in range(len(row)):
                row[d] *= 1 - rate * decay
                first[k][d] = betas[0] * first[k][d] + (1 - betas[0]) * slope[k][d]
                second[k][d] = betas[1] * second[k][d] + (1 - betas[1]) * slope[k][d] ** 2
                up = first[k][d] / (1 - betas[0] ** step)
                row[d] -= rate * up / (math.sqrt(second[k][d] / (1 - betas[1] ** step)) + eps)
    return weight
