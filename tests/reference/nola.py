"""NoLA in float64: which pictures are sure, the aligning head, the smoothed loss and AdamW's first step, as loops over plain lists."""

from __future__ import annotations

import math


def sure(chance, least=16, part=0.2):
    """``{picture: class}`` of the pictures each class is surest of."""
    classes = len(chance[0])
    count = max(least, math.floor(part * len(chance) / classes))
    ranked = [sorted(range(classes), key=lambda k, row=row: -row[k]) for row in chance]
    found = {}
    for k in range(classes):
        for place in range(min(3, classes)):
            has = [u for u in range(len(chance)) if ranked[u][place] == k]
            if has:
                for u in sorted(has, key=lambda u, k=k: -chance[u][k])[:count]:
                    found.setdefault(u, k)
                break
    return found


def smoothed(logits, label, part=0.1):
    """Mean cross-entropy with the answer spread: ``1 - part`` on the label, ``part`` evenly on all."""
    total = 0.0
    for row, k in zip(logits, label, strict=True):
        top = max(row)
        size = top + math.log(sum(math.exp(x - top) for x in row))
        total += (1 - part) * (size - row[k]) + part * sum(size - x for x in row) / len(row)
    return total / len(label)


def head(row, first, bias, second, shift):
    """Two layers with a ReLU, on one row."""
    hidden = [max(0.0, sum(a * b for a, b in zip(w, row, strict=True)) + c) for w, c in zip(first, bias, strict=True)]
    return [sum(a * b for a, b in zip(w, hidden, strict=True)) + c for w, c in zip(second, shift, strict=True)]


def first_step(number, gradient, lr, decay=0.01, eps=1e-8):
    """AdamW's first step on one number: decay apart, and the gradient's sign."""
    return number * (1 - lr * decay) - lr * gradient / (abs(gradient) + eps)
