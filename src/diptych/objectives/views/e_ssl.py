"""E-SSL: beside SimCLR, which wants views alike, a head tells by how many quarter turns a further view was turned.

Paper: Dangovski et al., "Equivariant Contrastive Learning", arXiv:2111.00899, section 3, and section 4 (E-SimCLR, four-fold rotations).
Code: https://github.com/rdangovs/essl
Relations: ``simclr`` with ``weight`` 0.

Shapes: B rows of this rank, W the tower's width.

With logits g[r][i] (four numbers) for the further view of picture i, turned by r quarter turns::

    loss = simclr(z[0], z[1])
    for i in rows:
        for r in range(4):
            loss += weight * -log(exp(g[r][i][r]) / sum(exp(g[r][i][q]) for q in range(4))) / (4 * B)

Every picture is turned all four ways. The paper's further view is a small crop at fewer pixels (96 of 224 on ImageNet, 16 of 32 on
CIFAR-10), for speed; a tower here has one size of picture, so the crop is enlarged to it. The paper's code contrasts across the two views
only; here the contrast is SimCLR's own. Paper: ``weight`` 0.4, predictor of two hidden layers of 2048 with layer norm.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core import registry
from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.core.types import Loss, Pairs
from diptych.objectives.parts.heads import mlp
from diptych.objectives.parts.views import SIMCLR_VIEW, pooled_views, wide
from diptych.towers.dual import DualEncoder
from diptych.towers.see import See

CARD = Card(
    id="e-ssl",
    name="E-SSL",
    family="views",
    paper="Equivariant Contrastive Learning, arXiv:2111.00899",
    where="sections 3 and 4",
    code="https://github.com/rdangovs/essl",
    claim="predicting the rotation improves SimCLR's features, while invariance to it would worsen them",
    published="ImageNet linear probe 72.5 % (abstract)",
)
USES: frozenset[str] = frozenset()
VIEWS = (SIMCLR_VIEW, SIMCLR_VIEW, SIMCLR_VIEW)
COLUMNS = frozenset({"z.0", "z.1"})
TURNS = 4
"""Quarter turns that are told apart."""


class Options(BaseModel):
    """Settings of :func:`e_ssl`, of SimCLR's head and of the head that tells the turn.

    Args:
        weight: of the turn's cross-entropy (the paper's λ).
        temperature: of SimCLR.
        hidden: width of the hidden layers of both heads.
        width: width of SimCLR's head's output.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    weight: float = Field(0.4, ge=0)
    temperature: float = Field(0.1, gt=0)
    hidden: int = Field(512, ge=1)
    width: int = Field(128, ge=2)


def chance(batch: int) -> float:
    """The loss of rows that tell nothing, at the default weight: ln(2·batch − 1) + 0.4 ln 4."""
    return math.log(2 * batch - 1) + 0.4 * math.log(TURNS)


def e_ssl(pairs: Pairs, *, weight: float = 0.4, temperature: float = 0.1) -> Loss:
    """SimCLR's loss of the first two views and the cross-entropy of the third view's turns.

    Args:
        pairs: ``taps`` holds ``z.0``, ``z.1`` (also in ``columns``) and ``turn`` (B, 4, 4): logits of the picture turned by r quarter
            turns in row r.
        weight, temperature: see :class:`Options`.

    Returns:
        ``terms`` contrast and turn (weighted); ``report`` SimCLR's and turn_accuracy.
    """
    contrast = registry.find("simclr", "views").function(pairs, temperature=temperature)
    logits_BRR = wide(pairs.taps["turn"])
    right_BR = torch.arange(TURNS, device=logits_BRR.device).expand(len(logits_BRR), TURNS)
    turn = weight * F.cross_entropy(logits_BRR.flatten(0, 1), right_BR.flatten())
    hit = (logits_BRR.detach().argmax(2) == right_BR).to(logits_BRR.dtype).mean()
    terms = {**contrast.terms, "turn": turn}
    return Loss(contrast.total + turn, terms, {**contrast.report, "turn_accuracy": hit})


class Method(nn.Module):
    """SimCLR's head and the head that tells the turn."""

    def __init__(self, model: DualEncoder, options: Options) -> None:
        super().__init__()
        self.settings = options.model_dump(include={"weight", "temperature"})
        width, (high, across) = model.image.width, model.image.image_size
        if high != across:
            raise UsageError(
                f"pictures of {high} × {across}", "a quarter turn of them has another shape", "Use a tower for square pictures"
            )
        self.head = mlp([width, options.hidden, options.width])
        self.teller = mlp([width, options.hidden, options.hidden, TURNS], norm="layer")

    def rows(self, see: See) -> dict[str, Tensor]:
        """``z.0``, ``z.1`` (B, D) and ``turn`` (B, 4, 4)."""
        turned = {f"view.{2 + turn}": torch.rot90(see.extra["view.2"], turn, dims=(2, 3)) for turn in range(TURNS)}
        pooled = pooled_views(replace(see, extra={**see.extra, **turned}), 2 + TURNS)
        logits_BRR = torch.stack([self.teller(pooled_BW) for pooled_BW in pooled[2:]], dim=1)
        return {"z.0": self.head(pooled[0]), "z.1": self.head(pooled[1]), "turn": logits_BRR}

    def forward(self, pairs: Pairs) -> Loss:
        """See :func:`e_ssl`."""
        return e_ssl(pairs, **self.settings)
