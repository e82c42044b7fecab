"""Descriptions chosen in a picture's neighbourhood, in float64 as loops."""

from __future__ import annotations


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def logits(image, label, text, pool, own, scale, rows, *, near, chosen, weight):
    """``logits[n][k]`` of ``rows``.

    Args:
        image, label: unit rows of the selection set and their classes.
        text: a unit row for each class name.
        pool: unit rows of all descriptions.
        own: for each class the positions of its own descriptions in the pool.
    """
    alike = []
    for p in pool:
        alike.append([])
        for k in range(len(text)):
            mine = [dot(x, p) for x, y in zip(image, label, strict=True) if y == k]
            alike[-1].append(sum(mine) / len(mine) if mine else None)
    found = []
    for x in rows:
        name = [dot(x, t) for t in text]
        order = sorted(range(len(text)), key=lambda k: -name[k])
        close = order[:near]
        score = {}
        for c in close:
            known = [e for e in close if label.count(e)]
            leads = []
            for p in range(len(pool)):
                if len(known) > 1 and c in known and all(alike[p][c] >= alike[p][e] for e in known):
                    leads.append((sum(alike[p][c] - alike[p][e] for e in known) / len(known), p))
            taken = [p for _, p in sorted(leads, reverse=True)[:chosen]] or own[c][:chosen]
            meaning = sum(dot(x, pool[p]) for p in taken) / len(taken) if taken else name[c]
            score[c] = (weight * name[c] + meaning) / (weight + 1)
        lowest = min(score.values())
        found.append([scale * (score[k] if k in score else lowest + name[k] - name[close[-1]]) for k in range(len(text))])
    return found
