"""RLCF in float64: one picture, lists of floats; the gradient by differences, so nothing of it is shared with the method."""

from __future__ import annotations

import math


def tuned(logits, values, judge, *, views, sample, share, steps, lr):
    """``(logits of the picture, values)`` after its steps.

    Args:
        logits: a function of the tuned values and a view's number that gives that view's logits.
        values: what is tuned, flat.
        judge: the second model's cosines of each view with each class.
    """
    values = list(values)
    first = [entropy(softmax(logits(values, v))) for v in range(views)]
    chosen = sorted(range(views), key=lambda v: first[v])[: max(1, int(share * views))]
    m, s = [0.0] * len(values), [0.0] * len(values)
    for t in range(1, steps + 1):
        told = []
        for v in chosen:
            row = logits(values, v)
            best = sorted(range(len(row)), key=lambda k: -row[k])[:sample]
            score = [2.5 * max(0.0, judge[v][k]) for k in best]
            told.append((v, best, [x - sum(score) / len(score) for x in score]))

        def loss(given, told=told):
            total = 0.0
            for v, best, reward in told:
                chance = softmax(logits(given, v))
                total -= sum(r * math.log(chance[k]) for r, k in zip(reward, best, strict=True))
            return total / (len(told) * sample)

        gradient = []
        for i in range(len(values)):
            up, down = list(values), list(values)
            up[i] += 1e-5
            down[i] -= 1e-5
            gradient.append((loss(up) - loss(down)) / 2e-5)
        for i, g in enumerate(gradient):
            m[i] = 0.9 * m[i] + 0.1 * g
            s[i] = 0.999 * s[i] + 0.001 * g * g
            values[i] -= lr * 5e-4 * values[i]
            values[i] -= lr * (m[i] / (1 - 0.9**t)) / (math.sqrt(s[i] / (1 - 0.999**t)) + 1e-8)
    return logits(values, 0), values


def softmax(row):
    """Shares of a row."""
    top = max(row)
    made = [math.exp(x - top) for x in row]
    return [x / sum(made) for x in made]


def entropy(chances):
    """In nats."""
    return -sum(p * math.log(p) for p in chances if p > 0)
