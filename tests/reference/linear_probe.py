"""The linear probe in float64: plain gradient descent on the loss as it is written, for as long as it moves."""

from __future__ import annotations

import numpy as np


def logits(image, label, text, scale, rows, *, ridge, from_words=True):
    """``logits[n][k]`` of ``rows``; plain lists of floats."""
    x, y, asked = np.array(image), np.array(label), np.array(rows)
    start = scale * np.array(text) if from_words else np.zeros((len(text), x.shape[1]))
    weight, bias = start.copy(), np.zeros(len(text))
    onehot = np.eye(len(text))[y]
    rate = 1.0 / (0.5 + ridge)
    for _ in range(200_000):
        answers = x @ weight.T + bias
        answers -= answers.max(1, keepdims=True)
        share = np.exp(answers) / np.exp(answers).sum(1, keepdims=True)
        away = (share - onehot) / len(x)
        step_weight, step_bias = away.T @ x + ridge * (weight - start), away.sum(0)
        weight, bias = weight - rate * step_weight, bias - rate * step_bias
        if max(np.abs(step_weight).max(), np.abs(step_bias).max()) < 1e-10:
            break
    return (asked @ weight.T + bias).tolist()
