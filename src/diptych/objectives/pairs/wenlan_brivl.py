"""BriVL of WenLan: MoCo across modalities. Momentum towers make the keys, and queues of keys serve as many negatives.

Paper: Huo et al., "WenLan: Bridging Vision and Language by Large-Scale Multi-Modal Pre-Training", arXiv:2103.06561
(cross-modal contrastive learning with momentum encoders and two queues); MoCo is He et al., arXiv:1911.05722.
Code: https://github.com/BAAI-WuDao/BriVL (inference only; its settings name momentum 0.99, temperature 0.07 and queues of 9,600)
Relations: ``clip`` has only the batch as negatives, and trains both sides of each similarity.

Shapes: B rows of this rank, N rows of all ranks, Q places of a queue, K = N + Q keys, D embedding width.

With queries x (image tower) and y (text tower), keys from the momentum towers (an average of the weights, no gradient) and queues of
the keys of earlier batches::

    for (query, keys, queue) in ((x, key_text, queue_text), (y, key_image, queue_image)):
        dictionary = keys of this batch + what the queue holds
        for i in rows:
            P = [j for j in dictionary if c[j] == c[i]]    # always holds the key of i's own pair
            loss -= mean(log softmax(scale * query[i] @ dictionary)[j] for j in P) / B

and half of the sum of both. In the paper only row i's own key is positive and the queue's keys are its negatives. Here the batch's keys
are put into the dictionary before the loss and not after, so that a run has negatives from its first step, and equal concepts are
positives wherever they stand (``repeats="positive"``), or are left out of the row's dictionary (``repeats="ignore"``). The scale is the
model's, which is learned; the paper's 0.07 is where it starts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from diptych.core.card import Card
from diptych.core.types import Loss, Pairs
from diptych.objectives.parts.contrast import equal, hits, similarities
from diptych.objectives.parts.queue import Queue
from diptych.towers.dual import DualEncoder
from diptych.towers.see import See

CARD = Card(
    id="wenlan-brivl",
    name="WenLan (BriVL)",
    family="objective",
    paper="WenLan: Bridging Vision and Language by Large-Scale Multi-Modal Pre-Training, arXiv:2103.06561",
    where="cross-modal MoCo",
    code="https://github.com/BAAI-WuDao/BriVL",
    needs=frozenset({"ema"}),
    claim="better than UNITER and CLIP downstream; many negatives on few GPUs",
    published="abstract; no single figure",
)
COLUMNS = frozenset({"key.image", "key.text"})
INIT_SCALE = 1 / 0.07


class Options(BaseModel):
    """Settings of :func:`wenlan_brivl`.

    Args:
        queue: keys of earlier batches that are kept, of each modality.
        momentum: decay of the momentum towers.
        repeats: what keys of an equal concept are: further positives, or left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    queue: int = Field(default=1024, ge=1)
    momentum: float = Field(default=0.99, ge=0.0, lt=1.0)
    repeats: Literal["positive", "ignore"] = "positive"


def chance(batch: int) -> None:
    """None: how many keys there are changes while the queue fills."""
    return


def _direction(query_BD: Tensor, key_KD: Tensor, own_BK: Tensor, same_BK: Tensor, full_K: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Mean loss over rows and the share of rows whose best key is a positive."""
    logits_BK = scale * similarities(query_BD, key_KD)
    logits_BK = logits_BK.masked_fill(~full_K | (same_BK & ~own_BK), torch.finfo(logits_BK.dtype).min)
    logp_BK = logits_BK.log_softmax(dim=1)
    loss_B = -torch.where(own_BK, logp_BK, 0.0).sum(1) / own_BK.sum(1)
    return loss_B.mean(), hits(logits_BK, own_BK)


def wenlan_brivl(pairs: Pairs, *, repeats: Literal["positive", "ignore"] = "positive") -> Loss:
    """The loss of this rank's queries against the keys of all ranks and of the queues.

    Args:
        pairs: columns ``key.image``, ``key.text`` (momentum towers' unit rows); state ``queue.image``, ``queue.text``,
            ``queue.concept`` and ``queue.full`` (whether a place holds a key).
        repeats: see :class:`Options`.

    Returns:
        ``terms`` image_to_text and text_to_image; ``report`` accuracy in the dictionary, and how many keys it holds.
    """
    state, keys = pairs.state, {name: pairs.columns[f"key.{name}"].detach() for name in ("image", "text")}
    known_K = torch.cat([pairs.concept_N, state["queue.concept"]])
    full_K = torch.cat([torch.ones_like(pairs.concept_N, dtype=torch.bool), state["queue.full"].bool()])
    same_BK = equal(pairs.concept_B, known_K) & full_K
    if repeats == "positive":
        own_BK = same_BK
    else:
        place_B = pairs.offset + torch.arange(len(pairs.concept_B), device=known_K.device)
        own_BK = place_B[:, None] == torch.arange(len(known_K), device=known_K.device)
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for query, key, rows_BD in (("image", "text", pairs.image_BD), ("text", "image", pairs.text_BD)):
        key_KD = torch.cat([keys[key], state[f"queue.{key}"].to(keys[key].dtype)])
        found[f"{query}_to_{key}"] = _direction(rows_BD, key_KD, own_BK, same_BK, full_K, pairs.scale)
    terms = {name: loss / 2 for name, (loss, _) in found.items()}
    report = {f"{name}_accuracy": hit for name, (_, hit) in found.items()} | {"keys": full_K.sum().float()}
    return Loss(sum(terms.values(), torch.zeros_like(pairs.scale)), terms, report)


class Method(nn.Module):
    """The queues; the momentum towers are the engine's average copy of the model."""

    def __init__(self, model: DualEncoder, options: Options) -> None:
        super().__init__()
        self.options = options
        self.queue = Queue({"image": model.embed_dim, "text": model.embed_dim}, options.queue)

    def momentum(self, progress: float) -> float:
        """Decay of the momentum towers, the same from beginning to end."""
        return self.options.momentum

    @torch.no_grad()
    def rows(self, see: See) -> dict[str, Tensor]:
        """Keys: unit rows of the momentum towers, which see whole pictures; of a frozen text tower its rows as they are."""
        assert see.text_BD is not None
        text_BD = see.text_BD if see.text_BL is None else see.ema.text_features(see.text_BL)
        return {"key.image": see.image(see.image_BCHW, model=see.ema), "key.text": text_BD}

    def forward(self, pairs: Pairs) -> Loss:
        """The loss against the queues as they are; then the batch's keys go in."""
        loss = wenlan_brivl(replace(pairs, state={**pairs.state, **self.queue.state()}), repeats=self.options.repeats)
        self.queue.put({name: pairs.columns[f"key.{name}"] for name in ("image", "text")}, pairs.concept_N)
        return loss
