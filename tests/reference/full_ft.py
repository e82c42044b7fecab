"""One step of AdamW (decoupled weight decay, arXiv:1711.05101, algorithm 2) on one number, in float64."""

from __future__ import annotations

import math


def adamw(weight, gradients, *, rates, decay, betas=(0.9, 0.999), eps=1e-8):
    """The number after a step for each gradient with its rate."""
    first = second = 0.0
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        weight -= rate * decay * weight
        first = betas[0] * first + (1 - betas[0]) * gradient
        second = betas[1] * second + (1 - betas[1]) * gradient * gradient
        weight -= rate * (first / (1 - betas[0] ** step)) / (math.sqrt(second / (1 - betas[1] ** step)) + eps)
    return weight


def rates(lr, steps):
    """Half a cosine from ``lr`` downwards."""
    return [lr * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]
