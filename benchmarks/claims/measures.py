"""What a trained model of a claim is asked: each answer a number an item, with the unit that is resampled.

Shapes: N items, K classes, D joint width.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from common import Values
from torch import Tensor
from torch.nn import functional as F

from diptych.core.types import Sample
from diptych.data.open import open as open_data
from diptych.engine.frozen import text_rows
from diptych.evaluate.metrics.retrieval import ranks


@functools.cache
def samples_of(name: str) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """Samples and class names of an evaluation set."""
    data = open_data(name)
    return tuple(data), tuple(data.classes or ())


@torch.no_grad()
def texts(model: Any, words: Sequence[str]) -> Tensor:
    """Unit rows of texts; pooled rows are kept on disk by the tower's weights, so a frozen tower encodes them once for all arms."""
    pooled = text_rows(model, words)
    return F.normalize(model.text_projection(pooled.to(model.device)), dim=-1).float().cpu()


def zero_shot(model: Any, name: str = "study/zero-shot", template: str = "{}", label: str = "zero-shot") -> dict[str, Values]:
    """Hits at 1 and 5 of the unseen styles; concepts are resampled."""
    samples, classes = samples_of(name)
    image_ND = model.encode_image(list(samples))
    text_KD = texts(model, [template.format(word) for word in classes])
    target_N = torch.tensor([sample.label for sample in samples])
    hit_N5 = (image_ND @ text_KD.T).topk(5).indices == target_N[:, None]
    return {
        f"{label} top-1": Values.of(hit_N5[:, 0].double(), target_N),
        f"{label} top-5": Values.of(hit_N5.any(1).double(), target_N),
    }


def retrieval(model: Any, name: str = "study/retrieval", k: int = 10) -> dict[str, Values]:
    """Recall at ``k`` both ways with each sample's first caption; pictures are resampled."""
    samples, _ = samples_of(name)
    image_ND, text_ND = model.encode_image(list(samples)), texts(model, [sample.captions[0] for sample in samples])
    group_N = torch.arange(len(samples))
    return {
        f"image to text recall@{k}": Values.of((ranks(image_ND, text_ND, group_N, group_N) < k).double()),
        f"text to image recall@{k}": Values.of((ranks(text_ND, image_ND, group_N, group_N) < k).double()),
    }


def modality_gap(model: Any, name: str = "study/retrieval") -> dict[str, Values]:
    """Distance of the mean picture row from the mean caption row (Liang et al., arXiv:2203.02053, section 4)."""
    samples, _ = samples_of(name)
    image_ND, text_ND = model.encode_image(list(samples)), texts(model, [sample.captions[0] for sample in samples])
    return {"modality gap": Values.of(float((image_ND.mean(0) - text_ND.mean(0)).norm()))}


def effective_rank(rows_ND: Tensor) -> float:
    """exp of the entropy of the normalised singular values of rows (RankMe, arXiv:2210.02885, equation 1)."""
    values = torch.linalg.svdvals(rows_ND.double())
    share = values / values.sum()
    return float(torch.exp(-(share * torch.log(share.clamp_min(1e-12))).sum()))


def rank_of_pictures(model: Any, name: str = "study/zero-shot") -> dict[str, Values]:
    """Effective rank of the picture rows."""
    return {"effective rank": Values.of(effective_rank(model.encode_image(list(samples_of(name)[0]))))}


def pooled_rows(model: Any, samples: Sequence[Sample]) -> Tensor:
    """Rows of the image tower before the projection, (N, W), float32, in order."""
    from diptych.towers.encode import evaluating, pixels

    parts = []
    with evaluating(model):
        for start in range(0, len(samples), 256):
            batch = torch.stack([pixels(s, model.config.preprocess) for s in samples[start : start + 256]])
            parts.append(model.image(model.normalise(batch))[0].float())
    return torch.cat(parts)


def nearest(model: Any, field: str = "subgroup", k: int = 20) -> dict[str, Values]:
    """k-NN on frozen pooled rows: drawings of the training styles vote on those of unseen styles (cosine, majority)."""
    known, asked = samples_of("study/train")[0], samples_of("study/zero-shot")[0]
    names = sorted({str(sample.meta[field]) for sample in known})
    label_of = {name: i for i, name in enumerate(names)}
    known_label = torch.tensor([label_of[str(s.meta[field])] for s in known])
    target_N = torch.tensor([label_of.get(str(s.meta[field]), -1) for s in asked])
    rows_KD, rows_ND = F.normalize(pooled_rows(model, known)), F.normalize(pooled_rows(model, asked))
    vote_Nk = known_label[(rows_ND @ rows_KD.T).topk(k).indices]
    count_NC = F.one_hot(vote_Nk, len(names)).sum(1)
    concept = torch.tensor([s.label for s in asked])
    return {f"{k}-NN {field}": Values.of((count_NC.argmax(1) == target_N).double(), concept)}


def together(*measures: Any) -> Any:
    """One measure out of several."""

    def measure(model: Any) -> dict[str, Values]:
        return {name: value for part in measures for name, value in part(model).items()}

    return measure
