"""HQ-CLIP: negative descriptions as hard negatives of each picture, and short tags that it must name.

Paper: Wei et al., "HQ-CLIP: Leveraging Large Vision-Language Models to Create High-Quality Image-Text Datasets and CLIP Models",
arXiv:2507.22431, the training part: contrastive loss, hard negative identification, short-tag classification.
Code: https://github.com/w1oves/hqclip (models and data; the training code is not published)
Relations: with both weights 0 it is ``clip``; ``structure-clip`` takes one swapped caption by a margin on cosines.

Shapes: B rows of this rank, D embedding width, R negative descriptions, T tags, K tag classes.

With images u, captions v, negative descriptions n, tag logits g and the set of tags t of each row::

    hard[i] = -log(exp(s * u[i] @ v[i]) / (exp(s * u[i] @ v[i]) + sum(exp(s * u[i] @ n[i][r]) for r in descriptions)))
    tags[i] = mean(-log(sigmoid(g[i][k])) if k in t[i] else -log(1 - sigmoid(g[i][k])) for k in classes)   # 0 where t[i] is empty
    loss = clip(u, v) + negative_weight * mean(hard) + tag_weight * mean(tags)

The paper's four texts a picture come from a large vision-language model. Here a negative description is one of ``meta["negatives"]``, else
made by rules (``parts/phrases.py``): attributes or things exchanged, a word replaced by another of its kind, else words of another kind
of thing. Tags are ``meta["tags"]``, else ``meta["keywords"]``, else what stands between the commas of the sample's captions, else the
caption's words. The paper's tags are classes of a fixed vocabulary; here a tag's class is a hash of it modulo K, so that no vocabulary has
to be counted first. Weights are ours.
"""

from __future__ import annotations

import math
import random
import re
import zlib

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.card import Card
from diptych.core.types import Loss, Pairs, Words
from diptych.objectives.parts.clip_loss import clip
from diptych.objectives.parts.phrases import exchanges, replacements
from diptych.towers.see import See

CARD = Card(
    id="hq-clip",
    name="HQ-CLIP",
    family="objective",
    paper="HQ-CLIP: Leveraging Large Vision-Language Models to Create High-Quality Image-Text Datasets and CLIP Models, arXiv:2507.22431",
    where="the training objective: hard negative identification and short-tag classification",
    code="https://github.com/w1oves/hqclip",
    needs=frozenset({"image.pooled"}),
    claim="state of the art at comparable scale; retrieval better than CLIP trained on ten times as many pairs",
    published="retrieval above CLIP trained on DFN-2B, with 150 million pairs (abstract)",
)
TAGS = 8  # tags a row, at most
HASH = 1 << 20  # tag numbers stay exact in float32
COMMON = frozenset(
    ["a", "an", "the", "of", "on", "in", "at", "to", "and", "or", "is", "are", "with", "by", "for", "it", "its", "this", "that", "one"]
)
OTHER = ("animal", "fruit", "vehicle", "building", "tool", "instrument", "garment", "flower", "face", "sign", "drink", "machine", "toy")


def negative(words: Words, draw: random.Random) -> str:
    """A description that is false of the picture."""
    if given := words.meta.get("negatives"):
        return given if isinstance(given, str) else draw.choice(list(given))
    choices = exchanges(words.caption)
    if not choices or draw.random() < 0.5:
        choices = replacements(words.caption, draw) or choices
    if choices:
        return draw.choice(choices)
    told = " ".join(words.captions).lower()
    return f"a picture of a {draw.choice([word for word in OTHER if word not in told])}"


def tags(words: Words, draw: random.Random) -> list[float]:
    """Numbers of at most 8 tags, filled up with −1; of more tags some are drawn."""
    given = words.meta.get("tags") or words.meta.get("keywords")
    if not given:
        given = [part for caption in words.captions if "," in caption for part in caption.rstrip(".").split(",")]
    if not given:
        given = [word for word in re.findall(r"\w+", words.caption) if word.lower() not in COMMON]
    names = list(dict.fromkeys(str(tag).strip().lower() for tag in given))
    chosen = draw.sample(names, TAGS) if len(names) > TAGS else names
    return [float(zlib.crc32(name.encode()) % HASH) for name in chosen] + [-1.0] * (TAGS - len(chosen))


EXTRA = {"text.negative": negative, "tags": tags}


class Options(BaseModel):
    """Settings of :func:`hq_clip`.

    Args:
        negative_weight: of the hard negatives.
        tag_weight: of the tags.
        classes: K, tag classes that hashes fall into; more means fewer tags share one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    negative_weight: float = Field(default=0.5, ge=0.0)
    tag_weight: float = Field(default=10.0, ge=0.0)
    classes: int = Field(default=4096, ge=2, le=HASH)


def chance(batch: int) -> float | None:
    """None: the share of the tags depends on how many there are."""
    return None


def _tag_loss(logits_BK: Tensor, tags_BT: Tensor) -> Tensor:
    """Mean over rows of the mean binary cross-entropy over classes; a row without tags counts 0."""
    there_BT = tags_BT >= 0
    classes_BT = tags_BT.long().clamp_min(0) % logits_BK.shape[1]
    target_BK = torch.zeros_like(logits_BK).scatter_reduce(1, classes_BT, there_BT.to(logits_BK.dtype), reduce="amax")
    loss_B = F.binary_cross_entropy_with_logits(logits_BK, target_BK, reduction="none").mean(1)
    return (loss_B * there_BT.any(1).to(loss_B.dtype)).mean()


def hq_clip(pairs: Pairs, *, negative_weight: float = 0.5, tag_weight: float = 10.0) -> Loss:
    """The loss of this rank's rows against the columns of all ranks.

    Args:
        pairs: unit rows; ``taps`` negative (B, R, D) unit rows, tag_logits (B, K) and tags (B, T), numbers of which −1 stands for none.
        negative_weight, tag_weight: see :class:`Options`.

    Returns:
        ``terms`` image_to_text, text_to_image, negatives and tags (weighted); ``report`` the share of pictures whose caption is nearer
        than every negative description, and what ``clip`` reports.
    """
    contrast = clip(pairs)
    wide = contrast.total.dtype
    image_B1D = pairs.image_BD.to(wide)[:, None]
    choices_BRD = torch.cat([pairs.text_BD.to(wide)[:, None], pairs.taps["negative"].to(wide)], dim=1)
    logits_BR = pairs.scale.to(wide) * (image_B1D * choices_BRD).sum(2)
    hard = negative_weight * -logits_BR.log_softmax(1)[:, 0].mean()
    tagged = tag_weight * _tag_loss(pairs.taps["tag_logits"].to(wide), pairs.taps["tags"])
    right = (logits_BR.detach()[:, :1] > logits_BR.detach()[:, 1:]).all(1).to(wide).mean()
    terms = {**contrast.terms, "negatives": hard, "tags": tagged}
    return Loss(contrast.total + hard + tagged, terms, {**contrast.report, "negative_accuracy": right})


class Method(nn.Module):
    """Encodes the negative descriptions, and the head that names tags from the pooled image row."""

    def __init__(self, model: nn.Module, options: Options) -> None:
        super().__init__()
        self.options = options
        self.head = nn.Linear(model.image.width, options.classes)  # type: ignore[arg-type, union-attr]
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.constant_(self.head.bias, -math.log(options.classes / TAGS))  # few of many classes are true

    def rows(self, see: See) -> dict[str, Tensor]:
        """Unit rows of the negative descriptions (B, 1, D), tag logits (B, K) and tag numbers (B, T)."""
        logits_BK = self.head(see.taps["image.pooled"])
        return {"negative": see.text("negative")[:, None], "tag_logits": logits_BK, "tags": see.extra["tags"]}

    def forward(self, pairs: Pairs) -> Loss:
        """:func:`hq_clip` with the run's options."""
        return hq_clip(pairs, **self.options.model_dump(exclude={"classes"}))
