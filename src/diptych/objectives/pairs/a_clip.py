"""A-CLIP's multi-view form: two masked views of each picture meet the words, one another, and what an average copy saw unmasked.

Paper: Yang et al., "Attentive Mask CLIP", arXiv:2212.08653, section 3 (multiple masked views; the auxiliary losses between the views and
from the online tower to its EMA); weights 1 and 2 and the temperature 0.1 are those of the released code.
Code: https://github.com/microsoft/A-CLIP
Relations: the token method ``a-clip`` makes the masks and may be used alone with any objective; ``slip`` contrasts whole views.

Shapes: B rows of this rank, W the image tower's width, D the heads' width.

With masked views v0, v1, words t, heads' rows z of the masked views, predictions p of the online tower and projections e of the EMA tower,
which sees the views unmasked::

    loss = (clip(v0, t) + clip(v1, t)) / 2
    loss += ssl_weight * simclr(z0, z1, temperature)
    loss += ema_weight * mean over both ways and rows of 2 - 2 * cosine(p[i], e[1 - i])

View 0 is the run's picture and view 1 its further view; the run's token method masks both (without one they stay whole). The paper's
EMA tower sees one larger crop; here it sees each view, and predicts across views as BYOL does. With the token method ``a-clip`` its pass
for the scores gives these rows too, so that the efficient form costs nothing more. Heads as in the paper: three linear layers for the
views, two for projection and prediction, with batch norm; narrower here.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.core import registry
from diptych.core.card import Card
from diptych.core.types import Loss, Pairs
from diptych.data.augment import Augment
from diptych.objectives.parts.followed import FollowedProjector, cosine_decay
from diptych.objectives.parts.heads import Norm, mlp
from diptych.objectives.parts.views import wide
from diptych.towers.dual import DualEncoder
from diptych.towers.see import See

CARD = Card(
    id="a-clip",
    name="A-CLIP",
    family="objective",
    paper="Attentive Mask CLIP, arXiv:2212.08653",
    where="section 3, auxiliary losses",
    code="https://github.com/microsoft/A-CLIP",
    needs=frozenset({"ema", "image.pooled"}),
    claim="better than CLIP and SLIP at little more than CLIP's cost",
    published="ImageNet zero-shot 43.9 against 37.6 for CLIP and 42.8 for SLIP at 1.16 times CLIP's time (ViT-B/16, YFCC-15M)",
)
VIEWS = (Augment(crop_area=(0.5, 1.0), crop_ratio=(3 / 4, 4 / 3), flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),)
COLUMNS = frozenset({"u.1", "z.0", "z.1"})


class Options(BaseModel):
    """Settings of :func:`a_clip` and of its heads.

    Args:
        ssl_weight: of the contrast between the masked views.
        ema_weight: of the prediction of the EMA tower's rows.
        temperature: of the contrast between views.
        momentum: the EMA's decay at the start; it rises to 1 along half a cosine. The paper's is 0.996, for long runs.
        hidden: width of the heads' hidden layers.
        width: width of the heads' outputs.
        norm: between a hidden layer and its ReLU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    ssl_weight: float = Field(default=1.0, ge=0)
    ema_weight: float = Field(default=2.0, ge=0)
    temperature: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.99, ge=0, le=1)
    hidden: int = Field(default=512, ge=1)
    width: int = Field(default=128, ge=2)
    norm: Norm = "batch"


def chance(batch: int) -> float:
    """The loss of rows that tell nothing and predictions at right angles: ln(batch) + ln(2·batch − 1) + 4."""
    return math.log(batch) + math.log(2 * batch - 1) + 4.0


def a_clip(pairs: Pairs, *, ssl_weight: float = 1.0, ema_weight: float = 2.0, temperature: float = 0.1) -> Loss:
    """The loss of this rank's rows.

    Args:
        pairs: the first view's unit rows and the words'; ``taps`` and ``columns`` hold the second view's unit rows ``u.1`` and the heads'
            rows ``z.0``, ``z.1``; ``taps`` also predictions ``p.0``, ``p.1`` and the EMA's projections ``t.0``, ``t.1``.
        ssl_weight, ema_weight, temperature: see :class:`Options`.

    Returns:
        ``terms`` pairs, views and ema, weighted; ``report`` CLIP's of the first view and the views' accuracy.
    """
    clip, simclr = registry.find("clip", "objective").function, registry.find("simclr", "views").function
    first = clip(pairs)
    second = clip(replace(pairs, image_BD=pairs.taps["u.1"], image_ND=pairs.columns["u.1"]))
    between = simclr(pairs, temperature=temperature)
    unit = {name: F.normalize(wide(pairs.taps[name]), dim=1) for name in ("p.0", "p.1", "t.0", "t.1")}
    cosine = ((unit["p.0"] * unit["t.1"]).sum(1) + (unit["p.1"] * unit["t.0"]).sum(1)).mean() / 2
    terms = {"pairs": (first.total + second.total) / 2, "views": ssl_weight * between.total, "ema": ema_weight * (2 - 2 * cosine)}
    return Loss(sum(terms.values(), torch.zeros_like(cosine)), terms, {**first.report, **between.report})


class Method(FollowedProjector):
    """The heads, and the projector's EMA, which takes the weights in at the next step."""

    def __init__(self, model: DualEncoder, options: Options) -> None:
        super().__init__()
        self.options = options
        self.head = mlp([model.image.width, options.hidden, options.hidden, options.width], norm=options.norm)
        self.follow(mlp([model.image.width, options.hidden, options.width], norm=options.norm))
        self.predictor = mlp([options.width, options.hidden, options.width], norm=options.norm)

    def rows(self, see: See) -> dict[str, Tensor]:
        """What :func:`a_clip` takes; ``t.0`` and ``t.1`` without a graph."""
        whole = [self._average(see)]
        view = replace(see, image_BCHW=see.extra["view.0"])
        if (look := getattr(see.tokens, "look", None)) is not None:
            look(view)
        whole.append(self._average(view))
        second_BW, _ = see.model.image(see.model.normalise(view.image_BCHW), tokens=see.tokens)
        pooled = [see.taps["image.pooled"], second_BW]
        rows = {"u.1": F.normalize(see.model.image_projection(second_BW), dim=-1)}
        for index in (0, 1):
            rows[f"z.{index}"] = self.head(pooled[index])
            rows[f"p.{index}"] = self.predictor(self.projector(pooled[index]))
            rows[f"t.{index}"] = self.target(whole[index])
        return rows

    @staticmethod
    @torch.no_grad()
    def _average(see: See) -> Tensor:
        """The EMA tower's pooled rows of the whole pictures; those of the token method's own pass where it has made one."""
        seen_BW = getattr(see.tokens, "pooled_BW", None)
        return see.ema.image(see.ema.normalise(see.image_BCHW))[0] if seen_BW is None else seen_BW

    def forward(self, pairs: Pairs) -> Loss:
        """See :func:`a_clip`; the projector's EMA then takes in the weights."""
        o = self.options
        loss = a_clip(pairs, ssl_weight=o.ssl_weight, ema_weight=o.ema_weight, temperature=o.temperature)
        self.take_in(cosine_decay(o.momentum, pairs.state["progress"]))
        return loss

    def momentum(self, progress: float) -> float:
        """Decay of the EMA."""
        return cosine_decay(self.options.momentum, progress)
