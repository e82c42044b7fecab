"""Naive float64 twin of HQ-CLIP's loss: plain loops over plain lists, from arXiv:2507.22431 and the form in the method's docstring."""

from __future__ import annotations

import math

import torch


def dot(a, b) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def minus_log_softmax(logits, index) -> float:
    top = max(logits)
    return top + math.log(math.fsum(math.exp(z - top) for z in logits)) - logits[index]


def contrast(rows, cols, concept, scale) -> float:
    total = 0.0
    for i, row in enumerate(rows):
        logits = [scale * dot(row, v) for v in cols]
        positives = [j for j, c in enumerate(concept) if c == concept[i]]
        total += math.fsum(minus_log_softmax(logits, j) for j in positives) / len(positives)
    return total / len(rows)


def tag_loss(logits, numbers) -> float:
    if all(number < 0 for number in numbers):
        return 0.0
    true = {int(number) % len(logits) for number in numbers if number >= 0}
    return math.fsum(math.log1p(math.exp(-g)) if k in true else math.log1p(math.exp(g)) for k, g in enumerate(logits)) / len(logits)


def reference(image, text, concept, scale, bias, *, taps, negative_weight=0.5, tag_weight=10.0) -> float:
    """All rows of all ranks as lists; returns the scalar loss. A common bias cancels in the softmax."""
    n = len(image)
    loss = (contrast(image, text, concept, scale) + contrast(text, image, concept, scale)) / 2
    for u, v, others in zip(image, text, taps["negative"], strict=True):
        loss += negative_weight * minus_log_softmax([scale * dot(u, t) for t in [v, *others]], 0) / n
    for logits, numbers in zip(taps["tag_logits"], taps["tags"], strict=True):
        loss += tag_weight * tag_loss(logits, numbers) / n
    return loss


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    rows = torch.randn(n, 2, 5, generator=draw, dtype=torch.float64)
    tags = torch.randint(-1, 40, (n, 3), generator=draw).to(torch.float64)
    tags[0], tags[1] = -1.0, torch.tensor([8.0, 9.0, -1.0])  # no tag; two of three places filled
    return {
        "negative": rows / rows.norm(dim=2, keepdim=True),
        "tag_logits": torch.randn(n, 7, generator=draw, dtype=torch.float64),
        "tags": tags,
    }


STOPPED = frozenset({"tags"})  # numbers of classes
OPTIONS = [{}, {"negative_weight": 0.0}, {"tag_weight": 0.0, "negative_weight": 2.0}]
