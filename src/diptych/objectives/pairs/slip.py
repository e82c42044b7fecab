"""SLIP: CLIP on the pair and a self-supervised loss on two further views of the picture, through one image tower.

Paper: Mu et al., "SLIP: Self-supervision meets Language-Image Pre-training", arXiv:2112.12750, section 3.
Code: https://github.com/facebookresearch/SLIP
Relations: ``clip`` is ``weight`` 0; ``simclr`` is the other half; ``a-clip`` contrasts masked views.

Shapes: B rows of this rank, W the image tower's width, D the head's width.

With the pair's rows u, v and the head's rows z of two further views::

    loss = clip(u, v) + weight * simclr(z[0], z[1])

The head is on the tower's pooled rows, beside the projection that CLIP trains. Paper: ``weight`` 1, SimCLR at temperature 0.1 with a head
of three layers of 4096, batch norm and output 256; CLIP's own picture is only cropped (at least half of it), which is up to the run's
``data.augment``. ``views`` may name any objective on two views that compares the head's rows (``barlow-twins``, ``vicreg``), as the paper
does with others; without ``view_options`` SimCLR's head has three layers and a batch norm, as in the paper, of smaller width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor, nn

from diptych.core import registry
from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.core.types import Loss, Pairs
from diptych.objectives.parts.views import SIMCLR_VIEW
from diptych.towers.dual import DualEncoder
from diptych.towers.see import See

CARD = Card(
    id="slip",
    name="SLIP",
    family="objective",
    paper="SLIP: Self-supervision meets Language-Image Pre-training, arXiv:2112.12750",
    where="section 3",
    code="https://github.com/facebookresearch/SLIP",
    claim="better than CLIP in zero-shot and than self-supervision in linear probes",
    published="ImageNet zero-shot 42.8 against CLIP's 37.6, linear probe 72.1 against SimCLR's 64.0 (ViT-B/16, YFCC15M; authors' README)",
)
VIEWS = (SIMCLR_VIEW, SIMCLR_VIEW)
COLUMNS = frozenset({"z.0", "z.1"})
PAPER_HEAD = {"layers": 3, "norm": "batch"}


class Options(BaseModel):
    """Settings of :func:`slip`.

    Args:
        weight: of the loss on views.
        views: the objective on views, by its id.
        view_options: its options, heads included.
        label_smoothing: of CLIP.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    weight: float = Field(1.0, ge=0)
    views: str = "simclr"
    view_options: Mapping[str, Any] = Field(default_factory=dict)
    label_smoothing: float = Field(0.0, ge=0, lt=1)

    @field_validator("views")
    @classmethod
    def _compares_two(cls, name: str) -> str:
        module = registry.find(name, "views").load()
        if getattr(module, "COLUMNS", None) != COLUMNS or len(module.VIEWS) != len(VIEWS) or module.CARD.needs:
            raise UsageError(
                f"objective.options.views={name!r}",
                "'slip' goes with objectives that compare the head's rows of two views and need nothing else",
                "Take 'simclr', 'barlow-twins' or 'vicreg', or train on it alone",
            )
        return name

    @model_validator(mode="after")
    def _options_fit(self) -> Options:
        registry.find(self.views, "views").load().Options.model_validate(dict(self.view_options))
        return self


def chance(batch: int) -> float:
    """The loss of rows that tell nothing, with SimCLR at weight 1: ln(batch) + ln(2·batch − 1)."""
    return math.log(batch) + math.log(2 * batch - 1)


def _joined(clip: Loss, view: Loss, weight: float) -> Loss:
    terms = {**clip.terms, **{f"view_{name}": weight * term for name, term in view.terms.items()}}
    return Loss(clip.total + weight * view.total, terms, {**clip.report, **view.report})


def slip(
    pairs: Pairs,
    *,
    weight: float = 1.0,
    views: str = "simclr",
    view_options: Mapping[str, Any] | None = None,
    label_smoothing: float = 0.0,
) -> Loss:
    """CLIP's loss of the pairs and the weighted loss of the further views.

    Args:
        pairs: unit rows and columns; ``taps`` and ``columns`` hold ``z.0`` and ``z.1``, the head's rows of the further views.
        weight, views, label_smoothing: see :class:`Options`.
        view_options: of the function of ``views`` (not of its head).

    Returns:
        ``terms`` CLIP's and, as ``view_…`` and weighted, those of the views' loss; ``report`` both reports.
    """
    clip = registry.find("clip", "objective").function(pairs, label_smoothing=label_smoothing)
    return _joined(clip, registry.find(views, "views").function(pairs, **(view_options or {})), weight)


class Method(nn.Module):
    """CLIP, and the heads of the objective on views."""

    def __init__(self, model: DualEncoder, options: Options) -> None:
        super().__init__()
        self.options = options
        module = registry.find(options.views, "views").load()
        settings = options.view_options or (PAPER_HEAD if options.views == "simclr" else {})
        self.views = module.Method(model, module.Options(**settings))

    def rows(self, see: See) -> dict[str, Tensor]:
        """``z.0`` and ``z.1``, (B, D) each."""
        return self.views.rows(see)

    def forward(self, pairs: Pairs) -> Loss:
        """See :func:`slip`; the views' loss has its own options."""
        clip = registry.find("clip", "objective").function(pairs, label_smoothing=self.options.label_smoothing)
        return _joined(clip, self.views(pairs), self.options.weight)
