"""TDA: pictures that the model was sure of become a cache for those that follow, and unsure ones say what a picture is not.

Paper: Karmanov et al., "Efficient Test-Time Adaptation of Vision-Language Models", CVPR 2024, arXiv:2403.18293 (the
positive and the negative cache, their collection, and the sum of the three answers).
Code: https://github.com/kdiAAA/TDA
Relations: ``tip-adapter`` has the same affinity with labelled pictures as keys; here the labels are the model's own.

Shapes: B pictures, K classes, C places of a cache a class, D joint width.

::

    for each picture in its order:
        zero = scale * image · text[k] for all k;   p = softmax(zero);   k = argmax(zero);   H = entropy(p)
        keep (image, H) in positive[k]                                       # C places; a full class keeps the lowest entropies
        if low < H / log2(K) < high:
            keep (image, H, p) in negative[k]
        logits = zero + alpha          * sum(exp(-beta          * (1 - image · key)) * onehot(k)        for key of positive[k], all k)
                      - negative_alpha * sum(exp(-negative_beta * (1 - image · key)) * (mask < p < 1)   for key, p in negative)

So a picture is in the cache when it is answered, and its own class gains ``alpha``. Entropies are in nats and their scale log2(K), as in
the published code: at most 0.69. The paper averages rows of augmented views for pictures under natural shift; rows are what is seen here,
so each picture is one row. Settings are those that the paper has for ImageNet.

Memory (``reset``, see :mod:`diptych.adapt.parts.stream`): ``"stream"`` empties both caches at a reset, ``"never"`` keeps them over it;
``"each"`` would leave the caches empty and is refused.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from diptych.adapt.parts.shots import Shots
from diptych.adapt.parts.stream import Reset, check_remembers, entropy, forgetting, words
from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.towers.rule import Answer, Rule, RuleConfig

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder

CARD = Card(
    id="tda",
    name="TDA",
    family="adapt",
    paper="Efficient Test-Time Adaptation of Vision-Language Models, arXiv:2403.18293",
    where="the positive and the negative cache",
    code="https://github.com/kdiAAA/TDA",
    claim="better than tuning prompts at test time, without a gradient and many times faster",
    published="mean over four shifted ImageNets 46.63 against 43.09 of CLIP and 43.89 of TPT (the code's README, ResNet-50)",
)
GRID = {}


class Options(BaseModel):
    """Settings of :func:`tda`.

    Args:
        capacity, negative_capacity: places a class in the caches; 0 leaves a cache out, but not both.
        alpha, negative_alpha: weights of their answers.
        beta, negative_beta: sharpness of their affinities.
        unsure: between which two entropies over log2(K) a picture goes into the negative cache.
        mask: a class above this probability is one that an unsure picture speaks against.
        reset: when the caches are emptied; ``"each"`` is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    capacity: int = Field(default=3, ge=0)
    alpha: float = Field(default=2.0, ge=0.0)
    beta: float = Field(default=5.0, gt=0.0)
    negative_capacity: int = Field(default=2, ge=0)
    negative_alpha: float = Field(default=0.117, ge=0.0)
    negative_beta: float = Field(default=1.0, gt=0.0)
    unsure: tuple[float, float] = (0.2, 0.5)
    mask: float = Field(default=0.03, ge=0.0, lt=1.0)
    reset: Reset = "stream"


def tda(
    shots: Shots,
    *,
    capacity: int = 3,
    alpha: float = 2.0,
    beta: float = 5.0,
    negative_capacity: int = 2,
    negative_alpha: float = 0.117,
    negative_beta: float = 1.0,
    unsure: tuple[float, float] = (0.2, 0.5),
    mask: float = 0.03,
    reset: Reset = "stream",
) -> Rule:
    """The rule; it begins with empty caches, looks at no labelled picture, and answers for any names. See the module.

    Raises:
        UsageError: ``reset="each"``, two caches without places, or no entropy lies between the two of ``unsure``.
    """
    check_remembers(CARD.id, reset)
    if not capacity and not negative_capacity:
        raise UsageError("method 'tda'", "neither cache has a place", "Leave one of the capacities above 0")
    if not 0 <= unsure[0] < unsure[1]:
        raise UsageError(f"method 'tda' with unsure {list(unsure)}", "no entropy lies between them", "Give a lower and a higher one")
    options = {
        "templates": list(shots.templates),
        "sure": (capacity, alpha, beta),
        "negative": (negative_capacity, negative_alpha, negative_beta),
        "unsure": tuple(unsure),
        "mask": mask,
        "reset": reset,
    }
    return Rule.of(RuleConfig(method=CARD.id, options=options))


class Cache:
    """Places for rows of each class, the most certain ones.

    Args:
        classes, places: K, C.
        width: D.
        like: a tensor of the type and device of what is kept.
        spoken: each place also keeps K numbers, which its affinity is multiplied with; without, it speaks for its own class.
    """

    def __init__(self, classes: int, places: int, width: int, like: Tensor, spoken: bool) -> None:
        self.key_KCD = like.new_zeros(classes, places, width)
        self.entropy_KC = like.new_full((classes, places), math.inf)
        self.spoken_KCK = like.new_zeros(classes, places, classes, dtype=torch.bool) if spoken else None

    def empty(self) -> None:
        """Forget everything."""
        self.entropy_KC.fill_(math.inf)

    def keep(self, row_D: Tensor, at: Tensor, entropy: Tensor, wanted: Tensor, spoken_K: Tensor | None = None) -> None:
        """Put a row into class ``at`` where ``wanted``, in a free place or that of the highest entropy, if its own is lower."""
        worst, place = self.entropy_KC[at].max(0)
        better = wanted & (entropy < worst)
        self.key_KCD[at, place] = torch.where(better, row_D, self.key_KCD[at, place])
        self.entropy_KC[at, place] = torch.where(better, entropy, worst)
        if self.spoken_KCK is not None and spoken_K is not None:
            self.spoken_KCK[at, place] = torch.where(better, spoken_K, self.spoken_KCK[at, place])

    def logits(self, row_D: Tensor, beta: float) -> Tensor:
        """What the kept rows say of a row, (K,)."""
        near_KC = torch.exp(-beta * (1 - self.key_KCD @ row_D)) * self.entropy_KC.isfinite()
        if self.spoken_KCK is None:
            return near_KC.sum(1)
        return near_KC.flatten() @ self.spoken_KCK.flatten(0, 1).to(near_KC.dtype)


def answer(model: DualEncoder, labels: tuple[str, ...], numbers: dict[str, Tensor], **options: Any) -> Answer:
    """Zero-shot logits and the caches' of a stream of rows; see the module."""
    text_KD, scale = words(model, labels, options["templates"]), float(model.scale.detach())
    count, (places, alpha, beta) = len(labels), options["sure"]
    less_places, less_alpha, less_beta = options["negative"]
    low, high = (bound * max(math.log2(count), 1e-12) for bound in options["unsure"])
    sure = Cache(count, places, text_KD.shape[1], text_KD, spoken=False)
    unsure = Cache(count, less_places, text_KD.shape[1], text_KD, spoken=True)

    def one(row_D: Tensor, zero_K: Tensor, entropy: Tensor) -> Tensor:
        at, always = zero_K.argmax(), torch.ones_like(entropy, dtype=torch.bool)
        logits_K = zero_K
        if places:
            sure.keep(row_D, at, entropy, always)
            logits_K = logits_K + alpha * sure.logits(row_D, beta)
        if less_places:
            chance_K = zero_K.softmax(0)
            spoken_K = (chance_K > options["mask"]) & (chance_K < 1)
            unsure.keep(row_D, at, entropy, (entropy > low) & (entropy < high), spoken_K)
            logits_K = logits_K - less_alpha * unsure.logits(row_D, less_beta)
        return logits_K

    @torch.no_grad()
    def logits(row_BD: Tensor) -> Tensor:
        row_BD = row_BD.to(text_KD)
        zero_BK = scale * row_BD @ text_KD.T
        entropy_B = entropy(zero_BK)
        parts = [one(*each) for each in zip(row_BD, zero_BK, entropy_B, strict=True)]
        return torch.stack(parts) if parts else zero_BK

    def forget() -> None:
        sure.empty()
        unsure.empty()

    return Answer(logits, forgetting(options["reset"], forget))
