"""Naive float64 twin of GRAIN's loss: plain loops over plain lists, from arXiv:2412.04429, section 3, and DETR's matching."""

from __future__ import annotations

import itertools
import math

import torch


def dot(a, b) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def minus_log_softmax(logits, index) -> float:
    top = max(logits)
    return top + math.log(math.fsum(math.exp(z - top) for z in logits)) - logits[index]


def contrast(rows, cols, concept, scale) -> float:
    total = 0.0
    for row, c in zip(rows, concept, strict=True):
        logits = [scale * dot(row, v) for v in cols]
        same = [j for j, d in enumerate(concept) if c == d]
        total += math.fsum(minus_log_softmax(logits, j) for j in same) / len(same)
    return total / len(rows)


def area(box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def box_cost(a, b, l1, giou) -> float:
    inside = area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])
    hull = area([min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])])
    union = area(a) + area(b) - inside
    return l1 * math.fsum(abs(x - y) for x, y in zip(a, b, strict=True)) + giou * (1 - inside / union + (hull - union) / hull)


def reference(image, text, concept, scale, bias, *, taps, box_weight=1.0, description_weight=1.0, l1=5.0, giou=2.0) -> float:
    """All rows of all ranks as lists; returns the scalar loss. A common bias cancels in the softmax."""
    n, boxes, numbers = len(image), taps["box"], taps["region_number"]
    loss = (contrast(image, text, concept, scale) + contrast(text, image, concept, scale)) / 2
    every = [(i, r) for i in range(n) for r in range(len(boxes[i])) if area(boxes[i][r]) > 1e-4]
    for i in range(n):
        mine = [r for k, r in every if k == i]
        if not mine:
            continue
        guesses = taps["found"][i]
        costs = [
            (math.fsum(box_cost(guesses[q], boxes[i][r], l1, giou) for q, r in zip(way, mine, strict=True)), way)
            for way in itertools.permutations(range(len(guesses)), len(mine))
        ]
        least, way = min(costs)
        loss += box_weight * least / len(mine) / n
        for q, r in zip(way, mine, strict=True):
            logits = [scale * dot(taps["query"][i][q], taps["region_text"][k][j]) for k, j in every]
            same = [at for at, (k, j) in enumerate(every) if numbers[k][j] == numbers[i][r]]
            told = math.fsum(minus_log_softmax(logits, at) for at in same) / len(same)
            loss += description_weight * told / len(mine) / n
    return loss


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Four queries and three regions a picture; the last of row 1 and all of row 4 are not there; some texts are equal."""

    def boxes(count: int) -> torch.Tensor:
        low = 0.6 * torch.rand(n, count, 2, generator=draw, dtype=torch.float64)
        return torch.cat([low, low + 0.1 + 0.3 * torch.rand(n, count, 2, generator=draw, dtype=torch.float64)], dim=2)

    box, found = boxes(3), boxes(4)
    box[1, 2], box[4] = 0.0, 0.5
    rows = torch.randn(n, 7, 5, generator=draw, dtype=torch.float64)
    rows = rows / rows.norm(dim=2, keepdim=True)
    number = torch.randint(0, 12, (n, 3), generator=draw).to(torch.float64)
    return {"query": rows[:, :4], "region_text": rows[:, 4:], "region_number": number, "box": box, "found": found}


STOPPED = frozenset({"region_number"})  # only whether they are equal counts
OPTIONS = [{}, {"box_weight": 0.5, "description_weight": 2.0}, {"l1": 1.0, "giou": 0.0}]
