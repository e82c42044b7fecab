"""Prototypes found online: rows of several kinds are kept for an episode, then k-means groups each kind.

Shapes: N rows of all ranks, D width of one kind, K prototypes, Q rows of an episode.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from diptych.core.rng import generator
from diptych.objectives.parts.kmeans import kmeans, means


class Episodes(nn.Module):
    """Buffers only: all of it is in a checkpoint, and equal on ranks that are given equal rows.

    Args:
        widths: width of each kind of rows (``"image"``, ``"text"`` …).
        students: kinds whose means over the other kinds' clusters are wanted (back translation).
        clusters, episode, steps: prototypes, rows between two clusterings, Lloyd's steps.
    """

    ready: Tensor
    count: Tensor

    def __init__(self, widths: Mapping[str, int], students: Iterable[str], clusters: int, episode: int, steps: int) -> None:
        super().__init__()
        self.kinds, self.clusters, self.episode, self.steps = tuple(widths), clusters, episode, steps
        self.pairs = [(student, teacher) for teacher in widths for student in students if student != teacher]
        for kind, width in widths.items():
            self.register_buffer(f"store_{kind}", torch.zeros(episode, width))
            self.register_buffer(f"prototypes_{kind}", torch.zeros(clusters, width))
        for student, teacher in self.pairs:
            self.register_buffer(f"means_{student}_{teacher}", torch.zeros(clusters, widths[student]))
        self.register_buffer("ready", torch.zeros(()))
        self.register_buffer("count", torch.zeros(2, dtype=torch.int64))  # rows of the running episode, episodes that are over
        self.known: list[int] | None = None  # the same on the host, read once

    def state(self) -> dict[str, Tensor]:
        """``ready`` (0 before the first clustering, then 1), prototypes by kind, and ``"image.text"``: images by the texts' clusters."""
        held = {"ready": self.ready} | {kind: self.get_buffer(f"prototypes_{kind}") for kind in self.kinds}
        return held | {f"{student}.{teacher}": self.get_buffer(f"means_{student}_{teacher}") for student, teacher in self.pairs}

    @torch.no_grad()
    def keep(self, rows: Mapping[str, Tensor]) -> None:
        """Take in rows of every kind (N, D); when the episode is full, cluster and begin a new one. Rows beyond its end are left out."""
        if self.known is None:
            self.known = self.count.tolist()
        begun, over = self.known
        taken = min(len(rows[self.kinds[0]]), self.episode - begun)
        for kind in self.kinds:
            self.get_buffer(f"store_{kind}")[begun : begun + taken] = rows[kind][:taken].to(self.ready.dtype)
        begun += taken
        if begun == self.episode:
            self._cluster(over)
            begun, over = 0, over + 1
        self.known = [begun, over]
        self.count.copy_(torch.tensor(self.known))

    def _cluster(self, over: int) -> None:
        """New buffers rather than new values in old ones: the loss of this step still refers to the old."""
        label_N = {}
        for kind in self.kinds:
            draw = generator(over, "k-means", kind, device=self.ready.device)
            found_KD, label_N[kind] = kmeans(self.get_buffer(f"store_{kind}"), self.clusters, self.steps, draw)
            setattr(self, f"prototypes_{kind}", found_KD)
        for student, teacher in self.pairs:
            setattr(self, f"means_{student}_{teacher}", means(self.get_buffer(f"store_{student}"), label_N[teacher], self.clusters)[0])
        self.ready = torch.ones_like(self.ready)
