"""Bootstrapped SparseFormer: a tower of few tokens learns to end where the ViT ends whose blocks it inherits, from pictures alone.

Paper: Gao et al., "Bootstrapping SparseFormers from Vision Foundation Models", arXiv:2312.01987, section 3 (inherited blocks frozen but
for the first, the focusing transformer trained, the final representation aligned with the teacher's by cosine).
Code: https://github.com/showlab/sparseformer
Relations: ``towers/sparseformer.py`` has the tower and ``bootstrap``, which makes the model to start from; ``clip-refine`` also tunes
beside a frozen teacher.

Shapes: B rows of this rank, D joint width.

With the tower's rows x and the teacher's rows y of the same pictures, both unit rows of the joint space::

    loss = mean(1 - cosine(x[i], y[i]) for i in rows)

Words are never seen: the text tower and both projections stay the teacher's, so that what it could name stays nameable. Of the inherited
blocks the first ``tune`` are trained. The paper aligns the class token of the last layer; here the rows after the frozen projection are
compared, which are what is searched and classified with.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.core.types import Loss, Pairs
from diptych.objectives.parts.views import wide
from diptych.towers.dual import DualEncoder
from diptych.towers.formats.load import load
from diptych.towers.see import See
from diptych.towers.sparseformer import SparseFormer

CARD = Card(
    id="sparseformer-bootstrap",
    name="Bootstrapped SparseFormer",
    family="objective",
    paper="Bootstrapping SparseFormers from Vision Foundation Models, arXiv:2312.01987",
    where="section 3, alignment with the foundation model",
    code="https://github.com/showlab/sparseformer",
    claim="a tower of few tokens made from a trained ViT in hours; made from CLIP it stays zero-shot without a caption",
    published="84.9 % on ImageNet-1K with 49 tokens, made from AugReg ViT-L/16 at 384 px (abstract)",
)
USES = frozenset({"image"})


class Options(BaseModel):
    """Settings of the method; the loss has none.

    Args:
        teacher: the model that the run's model was made from by ``bootstrap``: a name, a folder, ``hf:…``. It must be given.
        tune: how many of the first inherited blocks are trained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    teacher: str | None = None
    tune: int = Field(default=1, ge=0)


def chance(batch: int) -> float:
    """The loss of rows at right angles to the teacher's: 1, whatever the batch."""
    return 1.0


def sparseformer_bootstrap(pairs: Pairs) -> Loss:
    """The loss of this rank's rows.

    Args:
        pairs: ``image_BD`` are the tower's unit rows; ``taps`` holds the teacher's, ``teacher``.

    Returns:
        ``terms`` cosine, which is the total.
    """
    image_BD, teacher_BD = F.normalize(wide(pairs.image_BD), dim=1), F.normalize(wide(pairs.taps["teacher"]), dim=1)
    loss = 1 - (image_BD * teacher_BD).sum(1).mean()
    return Loss(loss, {"cosine": loss})


class Method(nn.Module):
    """Loads the teacher and freezes what is inherited.

    Raises:
        UsageError: the run's model is no SparseFormer, there is no teacher, or its joint space is another.
    """

    def __init__(self, model: DualEncoder, options: Options) -> None:
        super().__init__()
        if not isinstance(model.image, SparseFormer):
            raise UsageError(
                f"objective 'sparseformer-bootstrap' with image tower {model.image.config.kind!r}",
                "it trains a SparseFormer in front of inherited blocks",
                "Start from a model that diptych.towers.sparseformer.bootstrap made",
            )
        if options.teacher is None:
            raise UsageError("objective.options.teacher", "nobody says what to be like", "Name the model that bootstrap was given")
        teacher = load(options.teacher).eval().requires_grad_(False)
        if teacher.embed_dim != model.embed_dim:
            why = f"its rows have {teacher.embed_dim} dimensions, the run's model has {model.embed_dim}"
            raise UsageError(f"objective.options.teacher {options.teacher!r}", why, "Name the model that it was made from")
        for part in (model.image.blocks[options.tune :], model.image.norm, model.image_projection, model.text, model.text_projection):
            part.requires_grad_(False)
        model.log_scale.requires_grad_(False)
        # Held in a list: the teacher is no part of the checkpoint.
        self._teacher: list[DualEncoder] = [teacher]

    def rows(self, see: See) -> dict[str, Tensor]:
        """``teacher``: its unit rows of the same pictures, (B, D), without a graph."""
        teacher = self._teacher[0]
        if teacher.device != see.image_BCHW.device:
            self._teacher[0] = teacher = teacher.to(see.image_BCHW.device)
        with torch.no_grad():
            return {"teacher": see.image(see.image_BCHW, model=teacher)}

    def forward(self, pairs: Pairs) -> Loss:
        """See :func:`sparseformer_bootstrap`."""
        return sparseformer_bootstrap(pairs)
