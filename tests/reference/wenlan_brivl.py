"""Naive float64 twin of BriVL's cross-modal MoCo loss (arXiv:2103.06561, section 3.2): query by query, key by key."""

from __future__ import annotations

import math

import torch

STOPPED = frozenset({"key.image", "key.text"})
Q = 5


def unit_rows(n: int, d: int, draw: torch.Generator) -> torch.Tensor:
    rows = torch.randn(n, d, generator=draw, dtype=torch.float64)
    return rows / rows.norm(dim=1, keepdim=True)


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    return {"key.image": unit_rows(n, 5, draw), "key.text": unit_rows(n, 5, draw)}


def state(draw: torch.Generator) -> dict[str, torch.Tensor]:
    """A queue of five places, the last two still empty; its concepts 4, 9 and 77 partly stand in the batch too."""
    concept = torch.tensor([4, 9, 77, 0, 0])
    full = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    return {"queue.image": unit_rows(Q, 5, draw), "queue.text": unit_rows(Q, 5, draw), "queue.concept": concept, "queue.full": full}


def direction(queries, batch_keys, concept, queue, queue_concept, scale, repeats) -> float:
    total = 0.0
    for i, query in enumerate(queries):
        logits, positive = [], []
        for j, (key, c) in enumerate(zip([*batch_keys, *queue], [*concept, *queue_concept], strict=True)):
            same = c == concept[i]
            if repeats == "ignore" and same and j != i:
                continue
            logits.append(scale * math.fsum(a * b for a, b in zip(query, key, strict=True)))
            positive.append(same)
        top = max(logits)
        log_sum = top + math.log(math.fsum(math.exp(z - top) for z in logits))
        own = [z - log_sum for z, mine in zip(logits, positive, strict=True) if mine]
        total -= math.fsum(own) / len(own)
    return total / len(queries)


def reference(image, text, concept, scale, bias, *, taps, state, repeats="positive") -> float:
    """All queries of all ranks as lists, the batch's keys in the taps, the queues in the state."""
    held = [j for j, full in enumerate(state["queue.full"]) if full]
    queue = {name: [state[f"queue.{name}"][j] for j in held] for name in ("image", "text", "concept")}
    forth = direction(image, taps["key.text"], concept, queue["text"], queue["concept"], scale, repeats)
    back = direction(text, taps["key.image"], concept, queue["image"], queue["concept"], scale, repeats)
    return (forth + back) / 2


OPTIONS = [{}, {"repeats": "ignore"}]
