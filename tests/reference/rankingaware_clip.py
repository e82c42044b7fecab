"""The ranking-aware adapter's score and its losses in float64, as loops over one picture's tokens at a time."""

from __future__ import annotations

import math


def dot(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


def times(x, matrix):
    """A row times a matrix of rows."""
    return [sum(x[i] * matrix[i][j] for i in range(len(x))) for j in range(len(matrix[0]))]


def normed(x):
    """Mean 0, deviation 1, as a layer norm has it (1e-5 added to the variance)."""
    mean = sum(x) / len(x)
    variance = sum((v - mean) ** 2 for v in x) / len(x)
    return [(v - mean) / math.sqrt(variance + 1e-5) for v in x]


def softmax(x):
    top = max(x)
    parts = [math.exp(v - top) for v in x]
    return [part / sum(parts) for part in parts]


def relu(x):
    return [max(v, 0.0) for v in x]


def seen(numbers, tokens, words):
    """Text-conditioned tokens of one picture, normed."""
    every = [times(normed(word), numbers["wordwards"]) for word in words] + [list(prompt) for prompt in numbers["prompt"]]
    made = []
    for token in tokens:
        x = times(normed(token), numbers["inwards"])
        share = softmax([dot(x, word) / math.sqrt(len(x)) for word in every])
        made.append(normed([v + sum(share[n] * every[n][h] for n in range(len(every))) for h, v in enumerate(x)]))
    return made


def score(numbers, one):
    """Of one picture's text-conditioned tokens."""
    mean = [sum(token[h] for token in one) / len(one) for h in range(len(one[0]))]
    hidden = relu([v + s for v, s in zip(times(mean, numbers["hide"]), numbers["shift"], strict=True)])
    return dot(hidden, numbers["out"]) + numbers["level0"]


def pair(numbers, one, other):
    """How much further up the first picture stands than the second."""
    away = [[a - b for a, b in zip(x, y, strict=True)] for x, y in zip(one, other, strict=True)]
    total = [0.0] * len(away[0])
    for rank in numbers["rank"]:
        share = softmax([dot(rank, place) / math.sqrt(len(place)) for place in away])
        for t, place in enumerate(away):
            total = [v + share[t] * p / len(numbers["rank"]) for v, p in zip(total, place, strict=True)]
    return dot(relu(times(total, numbers["pair_hide"])), numbers["pair_out"])


def loss(numbers, pictures, words, target, ranking):
    """Regression on the targets, and all ordered pairs of different ones."""
    made = [seen(numbers, tokens, words) for tokens in pictures]
    squares = [(score(numbers, one) - y) ** 2 for one, y in zip(made, target, strict=True)]
    pairs = [
        math.log(1 + math.exp(-math.copysign(1, target[i] - target[j]) * pair(numbers, made[i], made[j])))
        for i in range(len(made))
        for j in range(len(made))
        if target[i] != target[j]
    ]
    return sum(squares) / len(squares) + ranking * (sum(pairs) / len(pairs) if pairs else 0.0)
