"""TPT in float64: one picture, lists of floats; the gradient by differences, so nothing of it is shared with the method."""

from __future__ import annotations

import math


def tuned(views, rows, context, scale, *, share, steps, lr, moments=None):
    """``(logits, context, moments)`` after the picture whose first view is itself.

    Args:
        views: unit rows of the views.
        rows: a function of a context (a list of lists) that gives the unit rows of the classes.
        moments: of AdamW from the picture before, ``(t, m, v)``.
    """
    width = len(context[0])
    flat = [x for token in context for x in token]
    t, m, v = moments or (0, [0.0] * len(flat), [0.0] * len(flat))

    def answers(values, which):
        text = rows([values[i : i + width] for i in range(0, len(values), width)])
        return [[scale * sum(a * b for a, b in zip(views[w], row, strict=True)) for row in text] for w in which]

    first = [entropy(softmax(row)) for row in answers(flat, range(len(views)))]
    chosen = sorted(range(len(views)), key=lambda w: first[w])[: max(1, int(share * len(views)))]

    def loss(values):
        chances = [softmax(row) for row in answers(values, chosen)]
        return entropy([sum(column) / len(chosen) for column in zip(*chances, strict=True)])

    for _ in range(steps):
        gradient = []
        for i in range(len(flat)):
            up, down = list(flat), list(flat)
            up[i] += 1e-5
            down[i] -= 1e-5
            gradient.append((loss(up) - loss(down)) / 2e-5)
        t += 1
        for i, g in enumerate(gradient):
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g * g
            flat[i] -= lr * 0.01 * flat[i]
            flat[i] -= lr * (m[i] / (1 - 0.9**t)) / (math.sqrt(v[i] / (1 - 0.999**t)) + 1e-8)
    context = [flat[i : i + width] for i in range(0, len(flat), width)]
    return answers(flat, [0])[0], context, (t, m, v)


def softmax(values):
    """Shares of a row."""
    top = max(values)
    made = [math.exp(x - top) for x in values]
    return [x / sum(made) for x in made]


def entropy(chances):
    """In nats."""
    return -sum(p * math.log(p) for p in chances if p > 0)
