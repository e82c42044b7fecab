"""Naive float64 twin of ProtoCLIP's loss (arXiv:2206.10996, section 3): InfoNCE and prototype scores, sample by sample."""

from __future__ import annotations

import math

import torch

K = 4
STOPPED = frozenset({"proto.external"})


def unit_rows(n: int, d: int, draw: torch.Generator) -> torch.Tensor:
    rows = torch.randn(n, d, generator=draw, dtype=torch.float64)
    return rows / rows.norm(dim=1, keepdim=True)


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    rows = {name: unit_rows(n, width, draw) for name, width in (("proto.image", 3), ("proto.text", 3), ("proto.external", 5))}
    return rows | {"proto.scale": 5.0 + torch.zeros(n, dtype=torch.float64)}


def state(draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Prototypes of unequal lengths; ``ready`` is 0 or 1 in a run, and a factor here so that a term without it is seen."""
    widths = {"image": 3, "text": 3, "external": 5, "image.text": 3, "text.image": 3, "image.external": 3, "text.external": 3}
    lengths = torch.linspace(0.3, 1.0, K, dtype=torch.float64)[:, None]
    rows = {name: lengths * unit_rows(K, width, draw) for name, width in widths.items()}
    return rows | {"ready": torch.tensor(0.75, dtype=torch.float64)}


def dot(a, b) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def log_softmax(scores: list[float]) -> list[float]:
    top = max(scores)
    log_sum = top + math.log(math.fsum(math.exp(s - top) for s in scores))
    return [s - log_sum for s in scores]


def info_nce(rows, cols, concept, scale) -> float:
    total = 0.0
    for i, row in enumerate(rows):
        logp = log_softmax([scale * dot(row, col) for col in cols])
        positive = [logp[j] for j in range(len(cols)) if concept[j] == concept[i]]
        total -= math.fsum(positive) / len(positive)
    return total / len(rows)


def prototype_loss(students, student_means, teachers, teacher_prototypes, scales, temperature) -> float:
    total = 0.0
    for student, teacher, scale in zip(students, teachers, scales, strict=True):
        distances = [math.fsum((a - b) ** 2 for a, b in zip(teacher, centre, strict=True)) for centre in teacher_prototypes]
        label = distances.index(min(distances))
        logp = log_softmax([scale * dot(student, mean) for mean in student_means])
        if temperature == 0.0:
            target = [1.0 if k == label else 0.0 for k in range(len(logp))]
        else:
            scores = [dot(teacher_prototypes[label], centre) / temperature for centre in teacher_prototypes]
            target = [math.exp(value) for value in log_softmax(scores)]
        total -= math.fsum(t * value for t, value in zip(target, logp, strict=True))
    return total / len(students)


def reference(
    image, text, concept, scale, bias, *, taps, state, weight=1.0, external=0.0, target_temperature=0.01, back_translation=True
) -> float:
    """All rows of all ranks as lists; heads' rows, their scale and the prototypes are given."""
    loss = (info_nce(image, text, concept, scale) + info_nce(text, image, concept, scale)) / 2
    p, q, s = taps["proto.image"], taps["proto.text"], taps["proto.scale"]
    for_image, for_text = ("image.text", "text.image") if back_translation else ("text", "image")
    pair = prototype_loss(p, state[for_image], q, state["text"], s, target_temperature)
    pair += prototype_loss(q, state[for_text], p, state["image"], s, target_temperature)
    loss += weight * state["ready"] * pair / 2
    if external > 0.0:
        teacher = taps["proto.external"]
        taught = prototype_loss(p, state["image.external"], teacher, state["external"], s, 0.0)
        taught += prototype_loss(q, state["text.external"], teacher, state["external"], s, 0.0)
        loss += external * state["ready"] * taught / 2
    return loss


def flat(n: int) -> float:
    """The loss of rows that tell nothing, before there are prototypes."""
    none = torch.Generator().manual_seed(0)
    taps = {name: value.tolist() for name, value in material(n, none).items()}
    held = {name: value.tolist() for name, value in state(none).items()} | {"ready": 0.0}
    return reference([[1.0, 0.0]] * n, [[1.0, 0.0]] * n, list(range(n)), 1.0, None, taps=taps, state=held)


OPTIONS = [
    {},
    {"back_translation": False, "weight": 0.5},
    {"target_temperature": 0.0},
    {"external": 0.7, "target_temperature": 0.2},
]
