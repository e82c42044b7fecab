"""Naive twins of A-CLIP (arXiv:2212.08653, section 3): the attentive mask in plain loops, and the losses over two masked views."""

from __future__ import annotations

import math

import torch


def masked(attention: list, grid: tuple[int, int], size: tuple[int, int], ratio: float) -> list[int]:
    """Patches that stay of one image.

    Args:
        attention: layers × heads × patches of the EMA tower's grid, of the class token.
        grid: rows and columns of the EMA tower's patches; ``size`` of the image's.
    """
    patches = grid[0] * grid[1]
    count = sum(len(heads) for heads in attention)
    mean = [math.fsum(head[i] for heads in attention for head in heads) / count for i in range(patches)]

    def at(row: int, column: int) -> float:
        """Bilinear sample where the middles of cells coincide with their areas; the edge is repeated."""
        y = min(max((row + 0.5) * grid[0] / size[0] - 0.5, 0.0), grid[0] - 1.0)
        x = min(max((column + 0.5) * grid[1] / size[1] - 0.5, 0.0), grid[1] - 1.0)
        y0, x0 = min(int(y), grid[0] - 1), min(int(x), grid[1] - 1)
        y1, x1 = min(y0 + 1, grid[0] - 1), min(x0 + 1, grid[1] - 1)
        dy, dx = y - y0, x - x0
        value = [mean[r * grid[1] + c] for r, c in ((y0, x0), (y0, x1), (y1, x0), (y1, x1))]
        return (1 - dy) * ((1 - dx) * value[0] + dx * value[1]) + dy * ((1 - dx) * value[2] + dx * value[3])

    scores = [at(r, c) for r in range(size[0]) for c in range(size[1])]
    kept = max(1, len(scores) - round(ratio * len(scores)))
    return sorted(sorted(range(len(scores)), key=lambda i: -scores[i])[:kept])


def dot(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def unit(row: list[float]) -> list[float]:
    return [x / math.sqrt(dot(row, row)) for x in row]


def nce(logits: list[float], positives: list[int]) -> float:
    """Cross-entropy with the target spread evenly over the positives."""
    top = max(logits)
    log_sum = top + math.log(math.fsum(math.exp(z - top) for z in logits))
    return math.fsum(log_sum - logits[j] for j in positives) / len(positives)


def clip(image, text, concept, scale) -> float:
    total = 0.0
    for rows, cols in ((image, text), (text, image)):
        for i, row in enumerate(rows):
            total += nce([scale * dot(row, col) for col in cols], [j for j, c in enumerate(concept) if c == concept[i]])
    return total / (2 * len(image))


def reference(image, text, concept, scale, bias, *, taps, ssl_weight=1.0, ema_weight=2.0, temperature=0.1) -> float:
    """All rows of all ranks: image–text over both views, view to view, online to EMA."""
    n = len(image)
    pair = (clip(image, text, concept, scale) + clip(taps["u.1"], text, concept, scale)) / 2
    views = [[unit(row) for row in taps[name]] for name in ("z.0", "z.1")]
    ssl = 0.0
    for v in (0, 1):
        for i in range(n):
            others = [(w, j) for w in (0, 1) for j in range(n) if (w, j) != (v, i)]
            ssl += nce([dot(views[v][i], views[w][j]) / temperature for w, j in others], [others.index((1 - v, i))])
    online = 0.0
    for p, t in (("p.0", "t.1"), ("p.1", "t.0")):
        for a, b in zip(taps[p], taps[t], strict=True):
            online += math.fsum((x - y) ** 2 for x, y in zip(unit(a), unit(b), strict=True))
    return pair + ssl_weight * ssl / (2 * n) + ema_weight * online / (2 * n)


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Unit rows of the second view; head outputs that are not normalised."""
    rows = torch.randn(n, 5, generator=draw, dtype=torch.float64)
    heads = {name: torch.randn(n, 4, generator=draw, dtype=torch.float64) for name in ("z.0", "z.1", "p.0", "p.1", "t.0", "t.1")}
    return {"u.1": rows / rows.norm(dim=1, keepdim=True), **heads}


def flat(n: int) -> float:
    """The value where all rows are one point and predictions stand at right angles to their targets."""
    ones, up, right = [[1.0, 0.0]] * n, [[1.0, 0.0]] * n, [[0.0, 1.0]] * n
    taps = {"u.1": ones, "z.0": ones, "z.1": ones, "p.0": up, "p.1": up, "t.0": right, "t.1": right}
    return reference(ones, ones, list(range(n)), 0.0, None, taps=taps)


OPTIONS = [{}, {"ssl_weight": 0.5, "ema_weight": 0.0, "temperature": 0.5}]
