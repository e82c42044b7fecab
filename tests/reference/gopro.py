"""GOPro in float64: the context that content and style write, and the three losses, as loops over plain lists."""

from __future__ import annotations

import math


def dot(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


def unit(x):
    return [a / math.sqrt(dot(x, x)) for a in x]


def statistics(tokens):
    """Mean and deviation of each channel over the tokens."""
    mean = [sum(channel) / len(tokens) for channel in zip(*tokens, strict=True)]
    spread = [
        math.sqrt(sum((x - m) ** 2 for x in channel) / len(tokens)) for channel, m in zip(zip(*tokens, strict=True), mean, strict=True)
    ]
    return mean, spread


def context(blocks, numbers):
    """``context[m][w]`` of one picture from its tokens after each block, ``blocks[l][t][v]``."""
    moved = list(numbers["shift"])
    for level, tokens in enumerate(blocks):
        content, spread = statistics(tokens)
        style = [(a + b) / 2 for a, b in zip(content, spread, strict=True)]
        for w in range(len(moved)):
            one = dot(numbers["style"][level][w], style) + numbers["style_bias"][level][w]
            two = dot(numbers["content"][level][w], content) + numbers["content_bias"][level][w]
            moved[w] += numbers["mix"][level] * (one + two) / 2
    return [[a + b for a, b in zip(token, moved, strict=True)] for token in numbers["context"]]


def projected(row, matrix):
    return unit([dot(one, row) for one in matrix])


def contrastive(one, other, temperature=0.1):
    """NT-Xent."""
    every, count, total = [*one, *other], len(one), 0.0
    for i, x in enumerate(every):
        mate = (i + count) % len(every)
        total -= dot(x, every[mate]) / temperature
        total += math.log(sum(math.exp(dot(x, y) / temperature) for j, y in enumerate(every) if j != i))
    return total / len(every)


def apart(text, other):
    """Mean squared difference of ``[b][k][d]``."""
    pairs = [(a, b) for p, q in zip(text, other, strict=True) for x, y in zip(p, q, strict=True) for a, b in zip(x, y, strict=True)]
    return sum((a - b) ** 2 for a, b in pairs) / len(pairs)


def loss(picture, text, view, first, second, matrices, scale, label, consistency, contrast):
    """All three; rows as the towers give them: ``view`` of the first views, ``text``, ``first``, ``second`` of each picture's classes."""
    shown, shown_view = ([projected(x, matrices[0]) for x in rows] for rows in (picture, view))
    total = 0.0
    for x, words, k in zip(shown, text, label, strict=True):
        logits = [scale * dot(x, projected(t, matrices[1])) for t in words]
        total += math.log(sum(math.exp(a - logits[k]) for a in logits))
    agree = apart(text, first) + apart(text, second)
    return total / len(label) + consistency * agree + contrast * contrastive(shown, shown_view)
