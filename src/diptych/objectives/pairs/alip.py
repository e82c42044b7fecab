"""ALIP: a raw caption and a synthetic one for each picture, and gates that weigh samples and pairs by how well they agree.

Paper: Yang et al., "ALIP: Adaptive Language-Image Pre-training with Synthetic Caption", arXiv:2308.08428, section 3: language consistency
gate, description consistency gate, adaptive contrastive loss.
Code: https://github.com/deepglint/ALIP
Relations: with both gammas 0 it is ``clip`` on each caption, summed. What is synthetic comes from ``meta["synthetic"]``, else from the
sample's other captions.

Shapes: B rows of this rank, N columns of all ranks, D embedding width; 3 similarities: raw–synthetic, image–raw, image–synthetic.

With similarities S, their histories H (momentum averages over steps of the mean over the batch) and i a row::

    sample[i] = min(1, exp(gamma_sample * (S[i].raw_synthetic - H.raw_synthetic)))
    for caption in (raw, synthetic):
        pair[i] = exp(gamma_pair * (S[i].image_caption - H.image_caption)) if sample[i] < 1 else 1    # to within rounding, 1e-6
        loss[i] += sample[i] * pair[i] * (cross_entropy(image i to captions) + cross_entropy(caption i to images)) / 2

The weights have no gradient. Rows of an equal concept are positives of one another, as in ``clip``. The paper leaves open where a history
begins: here at the first batch's mean, and each step's mean is taken in before its weights are computed.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from diptych.core.card import Card
from diptych.core.types import Loss, Pairs, Words
from diptych.objectives.parts.contrast import equal, similarities
from diptych.towers.see import See

CARD = Card(
    id="alip",
    name="ALIP",
    family="objective",
    paper="ALIP: Adaptive Language-Image Pre-training with Synthetic Caption, arXiv:2308.08428",
    where="section 3, the two gates and the adaptive contrastive loss",
    code="https://github.com/deepglint/ALIP",
    claim="state of the art in zero-shot retrieval and linear probes, at several scales of models and data",
    published="Flickr30K zero-shot recall@1, both ways, 70.5 / 48.9 against CLIP's 34.9 / 23.4 (ViT-B/32, YFCC15M; authors' README)",
)
ROUNDING = 1e-6
COLUMNS = frozenset({"synthetic", "similarity"})


def synthetic(words: Words, draw: random.Random) -> str:
    """``meta["synthetic"]`` (one text, or several to draw from), else another caption of the sample, else the same."""
    given = words.meta.get("synthetic")
    if isinstance(given, str):
        return given
    others = list(given) if given else [caption for caption in words.captions if caption != words.caption]
    return draw.choice(others) if others else words.caption


EXTRA = {"text.synthetic": synthetic}


class Options(BaseModel):
    """Settings of :func:`alip`.

    Args:
        sample_gamma: how steeply a sample loses weight as its two captions disagree; 0 leaves the gate open.
        pair_gamma: how steeply a pair's weight follows the agreement of picture and caption; 0 leaves the gate open.
        momentum: of the histories, in [0, 1).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    sample_gamma: float = Field(default=2.0, ge=0.0)
    pair_gamma: float = Field(default=2.0, ge=0.0)
    momentum: float = Field(default=0.99, ge=0.0, lt=1.0)


def chance(batch: int) -> float | None:
    """2 ln(batch): rows that tell nothing agree as much as ever, so every weight is 1."""
    return 2.0 * math.log(batch)


def gates(similarity_B3: Tensor, history_3: Tensor, sample_gamma: float, pair_gamma: float) -> tuple[Tensor, Tensor]:
    """Weights of the samples (B,) and of the raw and synthetic pairs (B, 2)."""
    apart_B3 = similarity_B3 - history_3.to(similarity_B3.dtype)
    sample_B = (sample_gamma * apart_B3[:, 0]).exp().clamp(max=1.0)
    pair_B2 = torch.where(sample_B[:, None] < 1.0 - ROUNDING, (pair_gamma * apart_B3[:, 1:]).exp(), 1.0)
    return sample_B, pair_B2


def _cross_entropy(rows_BD: Tensor, cols_ND: Tensor, same_BN: Tensor, scale: Tensor) -> Tensor:
    """Cross-entropy of each row (B,) to the uniform distribution over its positives."""
    cosine_BN = similarities(rows_BD, cols_ND)
    logp_BN = (scale.to(cosine_BN.dtype) * cosine_BN).log_softmax(dim=1)
    return -torch.where(same_BN, logp_BN, 0.0).sum(1) / same_BN.sum(1)


def alip(pairs: Pairs, *, sample_gamma: float = 2.0, pair_gamma: float = 2.0) -> Loss:
    """The gated loss of this rank's rows against the columns of all ranks.

    Args:
        pairs: unit rows; ``taps`` synthetic (B, D) and similarity (B, 3, without gradient); ``columns`` synthetic (N, D); ``state``
            history (3,).
        sample_gamma, pair_gamma: see :class:`Options`.

    Returns:
        ``terms`` raw and synthetic; ``report`` the mean weights of samples and of pairs of each kind.
    """
    similarity_B3 = pairs.taps["similarity"].to(torch.promote_types(pairs.image_BD.dtype, torch.float32))
    sample_B, pair_B2 = gates(similarity_B3, pairs.state["history"], sample_gamma, pair_gamma)
    same_BN = equal(pairs.concept_B, pairs.concept_N)
    terms = {}
    captions = {"raw": (pairs.text_BD, pairs.text_ND), "synthetic": (pairs.taps["synthetic"], pairs.columns["synthetic"])}
    for i, (name, (rows_BD, cols_ND)) in enumerate(captions.items()):
        forth_B = _cross_entropy(pairs.image_BD, cols_ND, same_BN, pairs.scale)
        back_B = _cross_entropy(rows_BD, pairs.image_ND, same_BN, pairs.scale)
        terms[name] = (sample_B * pair_B2[:, i] * (forth_B + back_B) / 2).mean()
    report = {"sample_weight": sample_B.mean(), "raw_weight": pair_B2[:, 0].mean(), "synthetic_weight": pair_B2[:, 1].mean()}
    return Loss(terms["raw"] + terms["synthetic"], terms, report)


class Method(nn.Module):
    """The synthetic rows and the histories."""

    history: Tensor

    def __init__(self, model: nn.Module, options: Options) -> None:
        super().__init__()
        self.options = options
        self.register_buffer("history", torch.full((3,), float("nan")))

    def rows(self, see: See) -> dict[str, Tensor]:
        """Unit rows of the synthetic captions, and the three similarities of each sample, without gradient."""
        other_BD = see.text("synthetic")
        with torch.no_grad():
            couples = ((see.text_BD, other_BD), (see.image_BD, see.text_BD), (see.image_BD, other_BD))
            similarity_B3 = torch.stack([(a.float() * b.float()).sum(1) for a, b in couples if a is not None and b is not None], dim=1)
        return {"synthetic": other_BD, "similarity": similarity_B3}

    def forward(self, pairs: Pairs) -> Loss:
        """The loss, after the step's means are taken into the histories."""
        with torch.no_grad():
            mean_3 = pairs.columns["similarity"].mean(0).to(self.history.dtype)
            kept_3 = torch.where(self.history.isnan(), mean_3, self.history)
            self.history.copy_(mean_3.lerp(kept_3, self.options.momentum))
        return alip(replace(pairs, state={**pairs.state, "history": self.history.clone()}), **self.options.model_dump(exclude={"momentum"}))
