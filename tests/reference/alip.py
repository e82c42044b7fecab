"""Naive float64 twin of ALIP's adaptive loss: plain loops over plain lists, from arXiv:2308.08428, section 3."""

from __future__ import annotations

import math

import torch


def dot(a, b) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def cross_entropy(row, cols, positives, scale) -> float:
    logits = [scale * dot(row, v) for v in cols]
    top = max(logits)
    log_sum = top + math.log(math.fsum(math.exp(z - top) for z in logits))
    return -math.fsum(logits[j] - log_sum for j in positives) / len(positives)


def weights(similarity, history, sample_gamma, pair_gamma) -> tuple[float, float, float]:
    """Weight of the sample, of its raw pair and of its synthetic pair."""
    sample = math.exp(sample_gamma * (similarity[0] - history[0]))
    if sample >= 1.0 - 1e-6:
        return 1.0, 1.0, 1.0
    return sample, *(math.exp(pair_gamma * (similarity[k] - history[k])) for k in (1, 2))


def reference(image, text, concept, scale, bias, *, taps, state, sample_gamma=2.0, pair_gamma=2.0) -> float:
    """All rows of all ranks as lists; returns the scalar loss. A common bias cancels in the softmax."""
    total = 0.0
    for i, c in enumerate(concept):
        positives = [j for j, d in enumerate(concept) if d == c]
        sample, raw, synthetic = weights(taps["similarity"][i], state["history"], sample_gamma, pair_gamma)
        for weight, captions in ((raw, text), (synthetic, taps["synthetic"])):
            forth = cross_entropy(image[i], captions, positives, scale)
            back = cross_entropy(captions[i], image, positives, scale)
            total += sample * weight * (forth + back) / 2
    return total / len(image)


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    rows = torch.randn(n, 5, generator=draw, dtype=torch.float64)
    return {
        "synthetic": rows / rows.norm(dim=1, keepdim=True),
        "similarity": torch.rand(n, 3, generator=draw, dtype=torch.float64) * 2 - 1,
    }


def state(draw: torch.Generator) -> dict[str, torch.Tensor]:
    return {"history": torch.rand(3, generator=draw, dtype=torch.float64) - 0.5}


def flat(n: int) -> float:
    """Rows that tell nothing agree as much as their histories say."""
    rows = [[1.0, 0.0]] * n
    taps = {"synthetic": rows, "similarity": [[1.0, 1.0, 1.0]] * n}
    return reference(rows, rows, list(range(n)), 0.0, 0.0, taps=taps, state={"history": [1.0, 1.0, 1.0]})


OPTIONS = [{}, {"sample_gamma": 0.0, "pair_gamma": 0.0}, {"sample_gamma": 1.0, "pair_gamma": 3.0}]
