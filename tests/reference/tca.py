"""TCA in float64, plain lists: condensing one picture's tokens, and the reservoir of a stream with the logits that it corrects."""

from __future__ import annotations

import math


def condensed(x, size, attention, left, centres, classed):
    """``(tokens, sizes)`` of one picture after a block that leaves ``left`` patch tokens."""
    centres = max(0, min(centres, left - 2))
    kept = left - centres - 1
    order = sorted(range(len(x)), key=lambda i: -attention[i])
    middle = max(centres, round(2 * (len(x) - kept) / 3)) if centres else 0
    stay, merged, fused = sorted(order[:kept]), order[kept : kept + middle], order[kept + middle :]
    made, sizes = [x[i] for i in stay], [size[i] for i in stay]
    for members in clusters(x, merged, centres):
        first = members[0]
        weights = [1.0 if far(x[i], x[first]) == 0 else 1 / max(far(x[i], x[first]), 1e-8) for i in members]
        made.append([sum(w * x[i][d] for w, i in zip(weights, members, strict=True)) / sum(weights) for d in range(len(x[0]))])
        sizes.append(sum(size[i] for i in members))
    whole = sum(size[i] for i in fused)
    shares = [attention[i] if classed else size[i] / whole for i in fused]
    made.append([sum(w * x[i][d] for w, i in zip(shares, fused, strict=True)) for d in range(len(x[0]))])
    return made, [*sizes, whole]


def clusters(x, merged, centres):
    """Members of each centre, the centre first: begun with the most attentive, each next one farthest from all before."""
    chosen = merged[:1] if centres else []
    while len(chosen) < centres:
        rest = [i for i in merged if i not in chosen]
        chosen.append(max(rest, key=lambda i: min(far(x[i], x[c]) for c in chosen)))
    groups = {c: [c] for c in chosen}
    for i in merged:
        if i not in chosen:
            groups[min(chosen, key=lambda c: far(x[i], x[c]))].append(i)
    return [groups[c] for c in chosen]


def far(a, b):
    """Euclidean distance."""
    return math.sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)))


class Reservoir:
    """Class tokens, each a list over blocks, of the sure pictures of a class."""

    def __init__(self, capacity, scale):
        self.capacity, self.scale, self.items = capacity, scale, {}

    def alike(self, a, b):
        """Cosine of each block, later ones counting more."""
        depth = len(a)
        weights = [math.exp(block / (depth - 1) / self.scale) for block in range(depth)]
        return sum(w * cosine(p, q) for w, p, q in zip(weights, a, b, strict=True)) / sum(weights)

    def corrected(self, zero, token, weight, beta):
        """The picture goes into its class; then the logits with what the reservoir says."""
        top = max(zero)
        chance = [math.exp(z - top) for z in zero]
        chance = [c / sum(chance) for c in chance]
        own = self.items.setdefault(zero.index(top), [])
        own.append((-sum(p * math.log(p) for p in chance if p > 0), token))
        if len(own) > self.capacity:
            likeness = [
                sum(self.alike(t, other) for j, (_, other) in enumerate(own) if j != i) / (len(own) - 1) for i, (_, t) in enumerate(own)
            ]
            worth = [h + s for (h, _), s in zip(own, likeness, strict=True)]
            own.pop(worth.index(max(worth)))
        made = list(zero)
        for k, items in self.items.items():
            for _, other in items:
                made[k] += weight * math.exp(-beta * (1 - self.alike(token, other)))
        return made

    def anchor(self, block, own):
        """The mean class token of a class with two pictures or more that is most like ``own`` behind this block; None without any."""
        means = []
        for _, items in sorted(self.items.items()):
            if len(items) > 1:
                tokens = [token[block] for _, token in items]
                means.append([sum(column) / len(tokens) for column in zip(*tokens, strict=True)])
        return max(means, key=lambda mean: cosine(mean, own)) if means else None


def cosine(a, b):
    """Of two rows."""
    return sum(p * q for p, q in zip(a, b, strict=True)) / math.sqrt(sum(p * p for p in a) * sum(q * q for q in b))
