"""Naive float64 twin of CLIP-Refine (arXiv:2504.12717, section 4): random points and blended labels, in loops."""

from __future__ import annotations

import math

import torch

OPTIONS = [{}, {"align": 0.3, "alpha": 0.0}, {"alpha": 1.0}]
STOPPED = {"teacher.image", "teacher.text", "reference"}


def material(n, draw):
    """Unnormalised rows, random points and the teacher's unit rows."""
    found = {name: torch.randn(n, 5, generator=draw, dtype=torch.float64) for name in ("image.row", "text.row", "reference")}
    for name in ("teacher.image", "teacher.text"):
        found[name] = torch.nn.functional.normalize(torch.randn(n, 5, generator=draw, dtype=torch.float64), dim=1)
    return found


def state(draw):
    return {"teacher_scale": torch.tensor(4.0, dtype=torch.float64)}


def dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def softmax(values):
    top = max(values)
    powers = [math.exp(value - top) for value in values]
    return [power / math.fsum(powers) for power in powers]


def reference(image, text, concept, scale, bias, *, taps, state, align=1.0, alpha=0.5) -> float:
    n, total = len(image), 0.0
    for i in range(n):
        point = taps["reference"][i]
        for name in ("image.row", "text.row"):
            total += align * math.fsum((a - r) ** 2 for a, r in zip(taps[name][i], point, strict=True)) / len(point) / 2
        positives = [j for j in range(n) if concept[j] == concept[i]]
        for rows, cols, mine, theirs in (
            (image, text, taps["teacher.image"], taps["teacher.text"]),
            (text, image, taps["teacher.text"], taps["teacher.image"]),
        ):
            known = softmax([state["teacher_scale"] * dot(mine[i], theirs[j]) for j in range(n)])
            ours = softmax([scale * dot(rows[i], cols[j]) for j in range(n)])
            for j in range(n):
                told = alpha * (1 / len(positives) if j in positives else 0.0) + (1 - alpha) * known[j]
                total += (told * math.log(told / ours[j]) if told > 0 else 0.0) / 2
    return total / n
