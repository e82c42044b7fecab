"""ProtoCLIP: InfoNCE plus the classification of each sample among prototypes that the other modality has found.

Paper: Chen et al., "ProtoCLIP: Prototypical Contrastive Language Image Pretraining", arXiv:2206.10996, section 3
(prototypical loss with soft targets, prototypical back translation, external teachers, online episodic training).
Code: https://github.com/megvii-research/protoclip
Relations: ``clip`` is the first term alone.

Shapes: B rows, N columns of all ranks, P width of the heads, E width of the teacher, K prototypes, Q rows of an episode.

Heads h (one a modality) map the rows u, v to unit rows p, q of width P. The heads' rows of an episode of Q samples are kept; at its
end k-means finds K prototypes of each modality, used while the next episode runs. Image as student of text, with t = s = "text"::

    C = prototypes of the texts;  label[i] = nearest(C, stop(q[i]))
    S = back translation: for each k the mean of the *images'* rows p whose texts lie in cluster k    # (S = C without it)
    target = softmax([C[label[i]] @ C[k] / target_temperature for k in K])             # soft; or one-hot
    loss  -= sum(target[k] * log softmax(scale * p[i] @ S)[k] for k in K) / B

and the same for text as student of image; both are halved. Back translation compares a student with means of its own modality, so
that grouping does not wait for alignment across the gap. An external teacher (``external`` > 0) is the frozen text tower: k-means on
its sentence rows, one-hot targets, both modalities as students through back translation. ``scale`` is learned, at most 100.

Differences: the paper encodes an episode before it begins and gives its samples fixed labels; here samples come as a stream, so a
sample is labelled by the prototypes of the episode before and its own present row, and InfoNCE runs alone until the first episode
is full (the paper's warm-up). The paper's last part with the image tower frozen is a matter of the run, not of the loss. Equal
concepts are positives of InfoNCE; prototype terms need no such rule, since a prototype is a group of positives already.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.core.types import Loss, Pairs
from diptych.objectives.parts.contrast import equal, info_nce
from diptych.objectives.parts.episodes import Episodes
from diptych.objectives.parts.heads import mlp
from diptych.objectives.parts.kmeans import nearest
from diptych.towers.dual import DualEncoder
from diptych.towers.see import See

CARD = Card(
    id="protoclip",
    name="ProtoCLIP",
    family="objective",
    paper="ProtoCLIP: Prototypical Contrastive Language Image Pretraining, arXiv:2206.10996",
    where="section 3: prototypical loss, prototypical back translation, episodic training",
    code="https://github.com/megvii-research/protoclip",
    claim="better linear probes and zero-shot transfer than CLIP on Conceptual Captions",
    published="ImageNet: linear probe +5.81, zero-shot +2.01 points (abstract)",
)
COLUMNS = frozenset({"proto.image", "proto.text", "proto.external"})
LOSS = {"weight", "external", "target_temperature", "back_translation"}
STUDENTS = ("image", "text")
MAX_SCALE = 100.0


class Options(BaseModel):
    """Settings of :func:`protoclip`.

    Args:
        weight: of the prototype terms beside InfoNCE.
        external: weight of the external teacher's terms; above 0 the text tower must be frozen.
        target_temperature: of the soft targets; 0 gives one-hot targets.
        back_translation: compare students with means of their own modality.
        clusters: K, the number of prototypes; the paper has a tenth of an episode.
        episode: Q, samples between two clusterings.
        steps: Lloyd's steps of a clustering.
        width, hidden: output and hidden width of the heads.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    weight: float = Field(default=1.0, ge=0.0)
    external: float = Field(default=0.0, ge=0.0)
    target_temperature: float = Field(default=0.01, ge=0.0)
    back_translation: bool = True
    clusters: int = Field(default=200, ge=2)
    episode: int = Field(default=2000, ge=2)
    steps: int = Field(default=10, ge=1)
    width: int = Field(default=128, ge=1)
    hidden: int = Field(default=512, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Options:
        if self.clusters > self.episode:
            raise ValueError(f"clusters {self.clusters} are more than the episode's {self.episode} samples")
        return self


def chance(batch: int) -> float:
    """The loss of rows that tell nothing before there are prototypes: ln(batch)."""
    return math.log(batch)


def _classify(student_BP: Tensor, mine_KP: Tensor, theirs_KE: Tensor, teacher_BE: Tensor, scale_B1: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of the student's prototype scores to the teacher's; ``temperature`` 0 means one-hot."""
    label_B = nearest(teacher_BE.detach().to(theirs_KE.dtype), theirs_KE)
    logp_BK = (scale_B1 * (student_BP.to(mine_KP.dtype) @ mine_KP.T)).log_softmax(dim=1)
    if temperature == 0.0:
        return F.nll_loss(logp_BK, label_B)
    target_BK = (theirs_KE[label_B] @ theirs_KE.T / temperature).softmax(dim=1)
    return -(target_BK * logp_BK).sum(1).mean()


def protoclip(
    pairs: Pairs, *, weight: float = 1.0, external: float = 0.0, target_temperature: float = 0.01, back_translation: bool = True
) -> Loss:
    """The loss of this rank's rows; the prototypes are the same on every rank.

    Args:
        pairs: taps ``proto.image``, ``proto.text`` (unit rows of the heads), ``proto.scale`` (a number a row) and ``proto.external``;
            state ``ready`` (0 until there are prototypes), ``image``, ``text``, ``external`` (prototypes), ``image.text`` (means of images
            by the texts' clusters), ``text.image``, ``image.external``, ``text.external``.
        weight, external, target_temperature, back_translation: see :class:`Options`.

    Returns:
        ``terms`` contrast, prototypes and, with a teacher, external.
    """
    same_BN = equal(pairs.concept_B, pairs.concept_N)
    forth = info_nce(pairs.image_BD, pairs.text_ND, same_BN, pairs.scale)
    back = info_nce(pairs.text_BD, pairs.image_ND, same_BN, pairs.scale)
    state, rows = pairs.state, {name: pairs.taps[f"proto.{name}"] for name in STUDENTS}
    scale_B1 = pairs.taps["proto.scale"].to(state["image"].dtype)[:, None]

    def student_of(student: str, teacher: str, mine: str, teacher_BE: Tensor, temperature: float) -> Tensor:
        return _classify(rows[student], state[mine], state[teacher], teacher_BE, scale_B1, temperature)

    names = ("image.text", "text.image") if back_translation else ("text", "image")
    pair = student_of("image", "text", names[0], rows["text"], target_temperature)
    pair = pair + student_of("text", "image", names[1], rows["image"], target_temperature)
    terms = {"contrast": (forth + back) / 2, "prototypes": weight / 2 * state["ready"] * pair}
    if external > 0.0:
        taught = [student_of(name, "external", f"{name}.external", pairs.taps["proto.external"], 0.0) for name in STUDENTS]
        terms["external"] = external / 2 * state["ready"] * (taught[0] + taught[1])
    return Loss(sum(terms.values(), 0.0 * pairs.scale), terms)


class Method(nn.Module):
    """Heads, the rows of the running episode and the prototypes of the one before."""

    def __init__(self, model: DualEncoder, options: Options) -> None:
        super().__init__()
        self.options, taught = options, options.external > 0.0
        if taught and any(p.requires_grad for p in model.text.parameters()):
            raise UsageError("objective.options.external", "the teacher is the text tower, which is trained", "Set init.freeze=[text]")
        wide = model.embed_dim
        self.heads = nn.ModuleDict({name: mlp((wide, options.hidden, options.width), norm="batch") for name in STUDENTS})
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        widths = dict.fromkeys(STUDENTS, options.width) | ({"external": wide} if taught else {})
        self.episodes = Episodes(widths, STUDENTS, options.clusters, options.episode, options.steps)

    def rows(self, see: See) -> dict[str, Tensor]:
        """Unit rows of the heads and their scale; what a teacher would say."""
        assert see.image_BD is not None
        assert see.text_BD is not None
        rows = {"image": see.image_BD, "text": see.text_BD}
        made = {f"proto.{name}": F.normalize(self.heads[name](row), dim=1) for name, row in rows.items()}
        return made | {
            "proto.scale": self.log_scale.exp().clamp(max=MAX_SCALE).expand(len(see.image_BCHW)),
            "proto.external": see.text_BD.detach(),
        }

    def forward(self, pairs: Pairs) -> Loss:
        """The loss with the prototypes of the last episode; then the batch is kept, and all clustered when the episode is full."""
        loss = protoclip(replace(pairs, state={**pairs.state, **self.episodes.state()}), **self.options.model_dump(include=LOSS))
        self.episodes.keep({kind: pairs.columns[f"proto.{kind}"] for kind in self.episodes.kinds})
        return loss
