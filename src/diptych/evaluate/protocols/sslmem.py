"""Does a model hold the pictures it was trained on more firmly than others of their kind?

Paper: Wang et al., Memorization in Self-Supervised Learning Improves Downstream Generalization (arXiv:2401.12233), section 3.

The alignment loss of a picture is the mean distance of the rows of its augmented views (:mod:`diptych.evaluate.metrics.memorisation`). The
paper's score compares two models, one trained with the picture and one without it: give the second as the baseline and evaluate on the
pictures in question, and minus half of ``alignment_loss.gain`` is their mean score
(:func:`~diptych.evaluate.metrics.memorisation.memorised` gives it for each picture). For one model alone the score is stood in for by
``memorisation_gap``: the loss on validation pictures (on the test pictures where the set names no validation) less that on training
pictures. It is above 0 where seen pictures are held more firmly, but differences between the two sets of pictures go into it.
Shapes: V views, N pictures.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.core.types import Sample
from diptych.evaluate.details import Thumbs
from diptych.evaluate.material import hash_of
from diptych.evaluate.metrics.memorisation import AUGMENT, VIEWS, alignment_loss, view_of
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.view import Split, View

CARD = Card(
    id="sslmem",
    name="SSLMem",
    family="protocol",
    paper="Memorization in Self-Supervised Learning Improves Downstream Generalization (arXiv:2401.12233)",
    where="section 3",
    code="https://github.com/sprintml/MemorizationSSL",
    claim="significant shares of training pictures are memorised, and models need it to generalise",
)
ORDER = 65
ASPECT = "Representation"
SUITES = {"full": ("study/kinds",)}
ABOUT = {
    "alignment_loss": About("Alignment loss", "mean distance of the rows of a test picture's views", "lower", share=False),
    "seen_alignment_loss": About(
        "Alignment loss, training pictures", "mean distance of the rows of a picture's views", "neither", share=False
    ),
    "unseen_alignment_loss": About(
        "Alignment loss, unseen pictures", "mean distance of the rows of a picture's views", "neither", share=False
    ),
    "memorisation_gap": About("Memorisation gap", "alignment loss on unseen less that on training pictures", "neither", share=False),
}
LIMIT = 128
BINS = 24


def applies(question: Question) -> bool:
    """The model takes pictures as pixels, and there are two of them at least."""
    return question.more is not None and hasattr(question.view.model.config, "preprocess") and len(question.table) >= 2


def run(question: Question) -> Outcome:
    """Alignment loss of at most :data:`LIMIT` pictures of each kind. Intervals resample concepts, else pictures."""
    view = question.view
    index_N = torch.randperm(len(question.table), generator=view.generator("sslmem"))[:LIMIT].sort().values
    own_N = losses(view, view.samples(index_N), "own")
    unit_N = question.table.group_N[index_N]
    metrics = [Metric("alignment_loss", own_N, unit_N, None, hits=False)]
    show = {"test": own_N}
    if view.has("train"):
        seen = view.companion("train", LIMIT)
        seen_N, seen_unit_N = of_split(view, seen), seen.table.group_N
        unseen_N, unseen_unit_N = own_N, unit_N
        if view.has("validation"):
            unseen = view.companion("validation", LIMIT)
            unseen_N, unseen_unit_N = of_split(view, unseen), unseen.table.group_N
        metrics += gap(seen_N, seen_unit_N, unseen_N, unseen_unit_N)
        show |= {"training": seen_N} | ({"validation": unseen_N} if view.has("validation") else {})
    return Outcome(CARD.id, tuple(metrics), index_N, show)


def gap(seen_N: Tensor, seen_unit_N: Tensor, unseen_M: Tensor, unseen_unit_M: Tensor) -> list[Metric]:
    """The gap and both its sides; training and unseen pictures are resampled apart from one another's units."""
    value = torch.stack([torch.cat([seen_N, unseen_M]), torch.cat([torch.zeros(len(seen_N)), torch.ones(len(unseen_M))])], 1)
    unit = torch.cat([seen_unit_N, unseen_unit_M + int(seen_unit_N.max()) + 1])

    def between(value_N2: Tensor) -> float:
        unseen = value_N2[:, 1] == 1
        return float(value_N2[unseen, 0].mean() - value_N2[~unseen, 0].mean())

    return [
        Metric("memorisation_gap", value.double(), unit, 0.0, hits=False, of=between),
        Metric("seen_alignment_loss", seen_N, seen_unit_N, None, hits=False),
        Metric("unseen_alignment_loss", unseen_M, unseen_unit_M, None, hits=False),
    ]


def of_split(view: View, split: Split) -> Tensor:
    """Alignment losses of a companion's pictures."""
    return losses(view, [split.material.source[i] for i in range(len(split.table))], split.material.fingerprint)


def losses(view: View, samples: list[Sample], key: str) -> Tensor:
    """Alignment loss of each of ``samples``; rows of views are kept with the model's other rows."""
    names = hash_of([view.data.fingerprint, key, str(view.seed), str(AUGMENT), str(view.model.config.preprocess), *(s.id for s in samples)])
    rows = [
        view.features.other(
            f"view|{v}|{names}", len(samples), lambda v=v: view.encode(samples, lambda image: view_of(image, view.seed, f"{key}|{v}"))
        )
        for v in range(VIEWS)
    ]
    return alignment_loss(torch.stack(rows))


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """How the losses of training, validation and test pictures are spread."""
    high = max(float(loss.max()) for loss in outcome.show.values()) or 1.0
    series = []
    for name, loss in outcome.show.items():
        share_B = torch.histc(loss, BINS, 0, high) / len(loss)
        series.append({"name": name, "points": [[round((i + 0.5) * high / BINS, 4), round(y, 5)] for i, y in enumerate(share_B.tolist())]})
    title = "Distance of a picture's views from one another"
    return {"figures": [{"kind": "lines", "title": title, "series": series, "x": "alignment loss", "y": "share of pictures"}]}
