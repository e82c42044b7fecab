"""Naive float64 twin of CLOC's loss: plain loops over plain lists, from arXiv:2410.02746, section 3, and the method's docstring."""

from __future__ import annotations

import math

import torch


def dot(a, b) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def minus_log_softmax(logits, index) -> float:
    top = max(logits)
    return top + math.log(math.fsum(math.exp(z - top) for z in logits)) - logits[index]


def contrast(rows, cols, concept, scale) -> float:
    """The mean over rows of the loss to all columns of an equal concept."""
    total = 0.0
    for row, c in zip(rows, concept, strict=True):
        logits = [scale * dot(row, v) for v in cols]
        same = [j for j, d in enumerate(concept) if c == d]
        total += math.fsum(minus_log_softmax(logits, j) for j in same) / len(same)
    return total / len(rows)


def shown(box) -> bool:
    return (box[2] - box[0]) * (box[3] - box[1]) > 1e-4


def local(rows, cols, texts, boxes, scale, similar) -> float:
    """Region rows against the columns of the shown regions, but for others whose text is too like."""
    every = [(i, r) for i in range(len(rows)) for r in range(len(boxes[i])) if shown(boxes[i][r])]
    total = 0.0
    for i in range(len(rows)):
        mine = [r for k, r in every if k == i]
        for r in mine:
            others = [(k, q) for k, q in every if (k, q) == (i, r) or dot(texts[i][r], texts[k][q]) <= similar]
            logits = [scale * dot(rows[i][r], cols[k][q]) for k, q in others]
            total += minus_log_softmax(logits, others.index((i, r))) / len(mine)
    return total / len(rows)


def reference(image, text, concept, scale, bias, *, taps, region_weight=1.0, grounding_weight=1.0, similar=0.9) -> float:
    """All rows of all ranks as lists; returns the scalar loss. A common bias cancels in the softmax."""
    boxes, texts = taps["box"], taps["region_text"]
    loss = (contrast(image, text, concept, scale) + contrast(text, image, concept, scale)) / 2
    loss += region_weight * local(taps["region"], texts, texts, boxes, scale, similar) / 2
    loss += region_weight * local(texts, taps["region"], texts, boxes, scale, similar) / 2
    for i in range(len(image)):
        mine = [r for r in range(len(boxes[i])) if shown(boxes[i][r])]
        for r in mine:
            away = math.fsum((a - b) ** 2 for a, b in zip(taps["found"][i][r], boxes[i][r], strict=True)) / 4
            loss += grounding_weight * away / len(mine) / len(image)
    return loss


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Three regions a picture; the last of row 1 and all of row 4 are not there; some texts are alike."""
    low = 0.6 * torch.rand(n, 3, 2, generator=draw, dtype=torch.float64)
    box = torch.cat([low, low + 0.1 + 0.3 * torch.rand(n, 3, 2, generator=draw, dtype=torch.float64)], dim=2)
    box[1, 2], box[4] = 0.0, 0.5
    rows = torch.randn(2, n, 3, 5, generator=draw, dtype=torch.float64)
    rows[1, 3, 0] = rows[1, 0, 1]
    rows[1, 5, 2] = rows[1, 0, 1] + 0.05
    rows[1, 2, 2] = rows[1, 2, 0]
    rows = rows / rows.norm(dim=3, keepdim=True)
    found = torch.rand(n, 3, 4, generator=draw, dtype=torch.float64)
    return {"region": rows[0], "region_text": rows[1], "box": box, "found": found}


OPTIONS = [{}, {"region_weight": 0.5, "grounding_weight": 0.0}, {"grounding_weight": 3.0, "similar": 0.3}]
