"""CapS-Adapter: a cache whose keys are pictures and their captions together, added to the zero-shot logits.

Paper: Wang et al., "CapS-Adapter: Caption-based MultiModal Adapter in Zero-Shot Classification", ACM MM 2024, arXiv:2405.16591
(M-Adapter, the inference; the support set is whatever labelled and captioned pictures are given here).
Code: https://github.com/WLuLi/CapS-Adapter
Relations: ``tip-adapter`` is ``share`` 0; with ``share`` 1 the keys are captions alone.

Shapes: S labelled pictures, C captions, K classes, D joint width, N pictures to name.

::

    caption[s] = unit(mean(text_row(c) for c in captions of s))
    affinity[n, s] = (1 - share) * image[n] · image[s] + share * image[n] · caption[s]
    logits[n, k] = scale * image[n] · text[k] + alpha * sum(exp(-beta * (1 - affinity[n, s])) for s if label[s] == k)

``affinity`` is ``image[n] · key[s]`` with ``key[s] = (1 - share) * image[s] + share * caption[s]``: a cache head holds it. Captions and
pictures lie apart in a CLIP space, so affinities sink as ``share`` grows and ``alpha`` has to grow with it; ``centre``, which the paper has
not, moves the captions' mean onto the pictures'. The code searches alpha from 0.1 to 50, beta from 1 to 50 and ``share`` (its delta) in
tenths on validation pictures.

What is left out: the paper's third term, the divergence between the class probabilities of two pictures (SuS-X's TIP-X), because it is
rescaled to the range that the affinities have over the whole test set, so that one picture alone has no answer. What the paper leaves open:
several captions of a picture, which are averaged here; a picture without one has its class's text row.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.shots import Shots
from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.towers.head import Head, HeadConfig

CARD = Card(
    id="caps-adapter",
    name="CapS-Adapter",
    family="adapt",
    paper="CapS-Adapter: Caption-based MultiModal Adapter in Zero-Shot Classification, arXiv:2405.16591",
    where="M-Adapter",
    code="https://github.com/WLuLi/CapS-Adapter",
    needs=frozenset({"labels", "captions"}),
    claim="a cache of pictures and captions beats a cache of pictures and plain zero-shot",
    published="+2.19% over the best training-free method before it, mean of 19 sets (abstract)",
)
GRID = {"alpha": (1.0, 10.0, 50.0, 300.0), "beta": (1.0, 5.5), "share": (0.0, 0.3, 0.6)}


class Options(BaseModel):
    """Settings of :func:`caps_adapter`.

    Args:
        alpha: weight of the cache's answer.
        beta: sharpness of the affinity.
        share: of the captions in the affinity; 0 is a cache of pictures alone.
        centre: captions are moved so that their mean is that of the pictures.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    alpha: float = Field(default=1.0, gt=0.0)
    beta: float = Field(default=5.5, gt=0.0)
    share: float = Field(default=0.3, ge=0.0, le=1.0)
    centre: bool = False


def caps_adapter(shots: Shots, *, alpha: float = 1.0, beta: float = 5.5, share: float = 0.3, centre: bool = False) -> Head:
    """The head; see the module. Raises :class:`UsageError` where no picture has a caption or no text tower is at hand."""
    caption_SD = caption_rows(shots)
    if centre:
        caption_SD = F.normalize(caption_SD - caption_SD.mean(0) + shots.image_SD.mean(0), dim=1)
    key_SD = (1 - share) * shots.image_SD + share * caption_SD
    made_by = f"caps-adapter, alpha {alpha:g}, beta {beta:g}, share {share:g}" + (", centred" if centre else "")
    config = HeadConfig(kind="cache", classes=shots.classes, width=shots.width, cached=len(key_SD), beta=beta, made_by=made_by)
    return Head.of(config, weight=shots.scale * shots.text_KD, key=key_SD, value=alpha * shots.onehot_SK())


def caption_rows(shots: Shots) -> Tensor:
    """One unit row (S, D) a picture: the mean of its captions' rows; its class's text row where it has none."""
    if not any(shots.captions):
        raise UsageError("caps-adapter", "no labelled picture has a caption", "Give data with captions, or take tip-adapter")
    flat = [caption for own in shots.captions for caption in own]
    owner_C = torch.repeat_interleave(torch.arange(len(shots.captions)), torch.tensor([len(own) for own in shots.captions]))
    sum_SD = torch.zeros_like(shots.image_SD).index_add_(0, owner_C.to(shots.label_S.device), shots.texts(flat))
    has_S = torch.tensor([bool(own) for own in shots.captions], device=shots.label_S.device)
    return F.normalize(torch.where(has_S[:, None], sum_SD, shots.text_KD[shots.label_S]), dim=1)
