"""Transductive multi-view zero-shot learning in float64: dense hypergraphs, hyperedge by hyperedge."""

from __future__ import annotations

import math

import numpy as np


def unit(rows):
    """Each row at length 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def softmax(logits):
    """Rows add up to 1."""
    exp = np.exp(logits - logits.max(1, keepdims=True))
    return exp / exp.sum(1, keepdims=True)


def nodes(image, texts, scale):
    """Every node in every view."""
    made = []
    for text in texts:
        made.append([text, softmax(scale * image @ text.T) @ text])
    likely = softmax(scale * image @ texts[0].T)
    seen = np.stack([sum(likely[n, k] * image[n] for n in range(len(image))) / likely[:, k].sum() for k in range(len(texts[0]))])
    made.append([seen, image])
    return [unit(np.concatenate([unit(part) - unit(part).mean(0) for part in parts])) for parts in made]


def walk(node, query, neighbours):
    """The normalised walk of one pair of views, dense."""
    count = len(node)
    incidence = np.zeros((count, count))
    for q in range(count):
        alike = [float(node[n] @ query[q]) for n in range(count)]
        for n in sorted(range(count), key=lambda n: -alike[n])[:neighbours]:
            incidence[n, q] = max(alike[n], 1e-6)
    made = np.zeros((count, count))
    node_degree, edge_degree = incidence.sum(1), incidence.sum(0)
    for a in range(count):
        for b in range(count):
            if node_degree[a] and node_degree[b]:
                through = sum(incidence[a, q] * incidence[b, q] / edge_degree[q] for q in range(count))
                made[a, b] = through / math.sqrt(node_degree[a] * node_degree[b])
    return made


def named(image, label, text, description, pool, scale, *, neighbours, spread, steps):
    """How much of each name reached each picture of the pool."""
    every = np.array([*image, *pool])
    view = nodes(every, [np.array(text), np.array(description)], scale)
    mean_walk = sum(walk(one, other, neighbours) for one in view for other in view) / len(view) ** 2
    classes = len(text)
    start = np.zeros((classes + len(every), classes))
    for k in range(classes):
        start[k, k] = 1
    for s, k in enumerate(label):
        start[classes + s, k] = 1
    reached, power = spread**steps * np.linalg.matrix_power(mean_walk, steps) @ start, np.eye(len(start))
    for t in range(steps):
        reached += (1 - spread) * spread**t * power @ start
        power = power @ mean_walk
    reached = reached[classes + len(image) :]
    return reached / reached.sum(1, keepdims=True)
