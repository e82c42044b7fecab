"""Naive float64 twin of LightCLIP's loss (arXiv:2312.00674, section 3): pair by pair, patch by patch, word by word."""

from __future__ import annotations

import math

import torch

STOPPED = frozenset({"seen.image", "seen.text", "is_word"})
PROGRESS = 0.75


def unit_rows(*shape: int, draw: torch.Generator) -> torch.Tensor:
    rows = torch.randn(*shape, generator=draw, dtype=torch.float64)
    return rows / rows.norm(dim=-1, keepdim=True)


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Three patches a picture; texts of one, two or three words."""
    is_word = (torch.arange(3) < torch.arange(n)[:, None] % 3 + 1).double()
    return {
        "patches": unit_rows(n, 3, 4, draw=draw),
        "words": unit_rows(n, 3, 4, draw=draw),
        "is_word": is_word,
        "mlm": torch.rand(n, generator=draw, dtype=torch.float64),
        "seen.image": unit_rows(n, 5, draw=draw),
        "seen.text": unit_rows(n, 5, draw=draw),
    }


def state(draw: torch.Generator) -> dict[str, torch.Tensor]:
    return {"progress": torch.tensor(PROGRESS, dtype=torch.float64)}


def dot(a, b) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def log_softmax(logits: list[float]) -> list[float]:
    top = max(logits)
    log_sum = top + math.log(math.fsum(math.exp(z - top) for z in logits))
    return [z - log_sum for z in logits]


def cross_entropy(similar, concept, scale, share, alike, temperature) -> float:
    """``similar`` and ``alike``: rows × columns."""
    total = 0.0
    for i, row in enumerate(similar):
        logp = log_softmax([scale * s for s in row])
        positive = [j for j in range(len(row)) if concept[j] == concept[i]]
        negative = [j for j in range(len(row)) if concept[j] != concept[i]]
        given = share if negative else 0.0
        for j in positive:
            total -= (1.0 - given) / len(positive) * logp[j]
        if negative:
            weights = log_softmax([alike[i][j] / temperature for j in negative])
            for j, weight in zip(negative, weights, strict=True):
                total -= given * math.exp(weight) * logp[j]
    return total / len(similar)


def matching(patches, words, is_word) -> float:
    real = [word for word, flag in zip(words, is_word, strict=True) if flag]
    by_word = math.fsum(max(dot(patch, word) for patch in patches) for word in real) / len(real)
    by_patch = math.fsum(max(dot(patch, word) for word in real) for patch in patches) / len(patches)
    return min(by_word, by_patch)


def reference(image, text, concept, scale, bias, *, taps, state, soften=0.2, similarity_temperature=0.1, token=0.5, mlm=0.2) -> float:
    """All rows of all ranks as lists; tokens, words and the loss of hidden words are given."""
    n, share = len(image), soften * state["progress"]
    pairs = [[(i, j) for j in range(n)] for i in range(n)]

    def table(rows, cols):
        return [[dot(rows[i], cols[j]) for i, j in row] for row in pairs]

    seen_image, seen_text = taps["seen.image"], taps["seen.text"]
    forth = cross_entropy(table(image, text), concept, scale, share, table(seen_image, seen_text), similarity_temperature)
    back = cross_entropy(table(text, image), concept, scale, share, table(seen_text, seen_image), similarity_temperature)
    match = [[matching(taps["patches"][i], taps["words"][j], taps["is_word"][j]) for i, j in row] for row in pairs]
    turned = [[match[j][i] for i, j in row] for row in pairs]
    matched = sum(cross_entropy(found, concept, scale, 0.0, found, 1.0) for found in (match, turned))
    return (forth + back) / 2 + token * matched / 2 + mlm * math.fsum(taps["mlm"]) / n


OPTIONS = [{}, {"soften": 0.0, "token": 1.0}, {"soften": 0.6, "similarity_temperature": 0.5, "mlm": 1.0}]
