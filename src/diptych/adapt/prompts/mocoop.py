"""MoCoOp: several learned contexts, each begun as a hand-made template; a router on the picture's row chooses two of them.

Paper: Du, Niu, Zhao, "Mixture of Prompt Learning for Vision-Language Models", arXiv:2409.12011 (Frontiers in Artificial Intelligence 8,
2025): the router, gating guided by hard prompts, semantically grouped text supervision.
Code: https://github.com/dyabel/mocoop
Relations: ``coop`` is one context without a router; ``cocoop`` makes a context for each picture.

Shapes: S labelled pictures, G groups of templates, K classes, M context tokens of a group, D joint width, B pictures.

::

    hard[g, k] = unit(mean(unit(text_tower(template of name[k])) for template in group[g]))
    soft[g, k] = unit(text_tower(context[g], name[k], what follows in the group's first template))
    gate[s] = router @ image[s] + router_bias
    weight[s] = softmax over the 2 greatest of gate[s], 0 elsewhere
    logits[s, k] = scale * sum(weight[s, g] * image[s] · soft[g, k] for g)
    wanted[s] = softmax(image[s] · hard[g, label[s]] + 10 where g is one of its 2 greatest, over g)
    loss = mean(cross_entropy(logits[s], label[s])) + guide * mean(cross_entropy(gate[s], wanted[s]))
         + text * mean(cross_entropy(soft[g, k] · hard[g, e] over e, k) for g and k)

The model keeps a rule, which encodes any names behind every context once and routes each picture. Image rows are computed once.

From the published code: the 10 that makes the guide nearly even over the two templates, cosines without a scale in the text term, SGD with
learning rate 0.032 at 32 pictures a step, 50 epochs, ``text`` 5 and ``guide`` 1. Left out: layer norms of the image tower and a shift of
the text rows, which the code tunes besides, names of new classes, which it reads in training, and learning of what follows the name (here
it stays as it is). By default every template in use is a group of its own, or four groups of general ones where there is one template
alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.context import Names, frozen, start, token_rows
from diptych.adapt.parts.shots import Shots
from diptych.adapt.parts.train import fit
from diptych.adapt.parts.work import Tuned, Work
from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.towers.rule import Answer, Rule, RuleConfig

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder

CARD = Card(
    id="mocoop",
    name="Mixture of Prompt Learning (MoCoOp)",
    family="adapt",
    paper="Mixture of Prompt Learning for Vision Language Models, arXiv:2409.12011",
    where="the router, its guidance and the grouped text supervision",
    code="https://github.com/dyabel/mocoop",
    needs=frozenset({"labels", "towers"}),
    claim="contexts chosen for each picture beat one context, on base and on new classes",
    published="evident gains on 11 sets: few shots, base to new, domains (abstract, no figures)",
)
GRID: dict[str, tuple[float, ...]] = {}
GROUPS = (
    ("a photo of a {}.", "a picture of a {}.", "an image of a {}."),
    ("a drawing of a {}.", "a sketch of a {}.", "a cartoon of a {}."),
    ("a close-up of a {}.", "a large {}.", "a cropped photo of a {}."),
    ("a small {}.", "a blurry photo of a {}.", "many {}."),
)
LIFT = 10.0  # what the similarities of the wanted templates are raised by
LONGEST = 16  # context tokens of a group at most; the last ones of a longer template are taken


class Options(BaseModel):
    """Settings of :func:`mocoop`.

    Args:
        groups: templates with ``{}``; each group's context begins as its first one. None takes the templates in use, one a group.
        top: contexts that answer for a picture.
        guide: weight of the router's guidance by the templates.
        text: weight of the contrastive loss between learned and hand-made texts.
        epochs: passes over the labelled pictures.
        lr: first learning rate.
        batch: pictures of a step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    groups: tuple[tuple[str, ...], ...] | None = None
    top: int = Field(default=2, ge=1)
    guide: float = Field(default=1.0, ge=0.0)
    text: float = Field(default=5.0, ge=0.0)
    epochs: int = Field(default=50, ge=1)
    lr: float = Field(default=0.032, gt=0.0)
    batch: int = Field(default=32, ge=1)


def mocoop(
    work: Work,
    *,
    groups: tuple[tuple[str, ...], ...] | None = None,
    top: int = 2,
    guide: float = 1.0,
    text: float = 5.0,
    epochs: int = 50,
    lr: float = 0.032,
    batch: int = 32,
) -> Tuned:
    """The model with a rule that answers for any names; see the module.

    Raises:
        UsageError: a group is empty, a template has no ``{}``, or the model reads prompts already or cannot name classes.
    """
    shots, model = work.shots, frozen(work)
    chosen = _checked(groups, shots)
    after = [group[0].split("{}", 1)[1] for group in chosen]
    learned: dict[str, Tensor] = {}
    for g, before in enumerate(group[0].split("{}", 1)[0] for group in chosen):
        count = min(LONGEST, len(token_rows(model, before))) if before.strip() else 1
        learned[f"context_{g}"] = start(model, None, count, shots.draw, [before])
    sets = _names(model, shots.classes, after, [len(context) for context in learned.values()])
    for name, shape in (("router", (len(chosen), shots.width)), ("router_bias", (len(chosen),))):
        learned[name] = ((2 * torch.rand(shape, generator=shots.draw) - 1) / math.sqrt(shots.width)).to(model.device)
    for value in learned.values():
        value.requires_grad_()
    image_SD, label_S = shots.image_SD.to(model.device), shots.label_S.to(model.device)
    hard_GKD = hard(shots, chosen).to(model.device)

    def loss_of(index_B: Tensor) -> Tensor:
        image_BD, label_B = image_SD[index_B], label_S[index_B]
        soft_GKD = torch.stack([names.rows(learned[f"context_{g}"]) for g, names in enumerate(sets)])
        gate_BG = F.linear(image_BD, learned["router"], learned["router_bias"])
        loss = F.cross_entropy(shots.scale * routed(image_BD, soft_GKD, gate_BG, top), label_B)
        if guide:
            loss = loss + guide * F.cross_entropy(gate_BG, wanted(image_BD, hard_GKD[:, label_B], top))
        return loss + text * kept_apart(soft_GKD, hard_GKD) if text else loss

    settings = {"epochs": epochs, "lr": lr, "batch": batch, "warm": 1, "momentum": 0.9, "weight_decay": 5e-4}
    losses = fit(list(learned.values()), loss_of, len(label_S), shots.draw, **settings)  # type: ignore[arg-type]
    options = {"scale": shots.scale, "top": top, "after": after}
    rule = Rule.of(RuleConfig(method=CARD.id, options=options), **{name: value.cpu() for name, value in learned.items()})
    return Tuned(work.model.with_head(None).with_rule(rule.to(model.device)), rule.numbers(), losses)


def _checked(groups: Sequence[Sequence[str]] | None, shots: Shots) -> Sequence[Sequence[str]]:
    if groups is None:
        groups = [(template,) for template in shots.templates] if len(shots.templates) > 1 else GROUPS
    if not groups or not all(groups):
        raise UsageError("groups", "one of them has no template", "Give each at least one, such as 'a photo of a {}.'")
    for template in (template for group in groups for template in group):
        if "{}" not in template:
            raise UsageError(f"template {template!r}", "it has no {} for the class", "Write it like 'a photo of a {}.'")
    return groups


def _names(model: DualEncoder, classes: Sequence[str], after: Sequence[str], counts: Sequence[int]) -> list[Names]:
    """The class names as each group has them."""
    return [Names(model, [name + end for name in classes], count) for end, count in zip(after, counts, strict=True)]


def hard(shots: Shots, groups: Sequence[Sequence[str]]) -> Tensor:
    """Unit rows (G, K, D) of the groups' own templates."""
    every = [shots.texts([one.replace("{}", name) for one in group for name in shots.classes]) for group in groups]
    means = [rows.double().unflatten(0, (len(group), -1)).mean(0) for rows, group in zip(every, groups, strict=True)]
    return F.normalize(torch.stack(means), dim=2).float()


def routed(image_BD: Tensor, soft_GKD: Tensor, gate_BG: Tensor, top: int) -> Tensor:
    """Similarities (B, K) with the mixture of class rows that the gate chooses for each picture."""
    best = gate_BG.topk(min(top, gate_BG.shape[1]), dim=1)
    weight_BG = torch.zeros_like(gate_BG).scatter(1, best.indices, best.values.softmax(1))
    return torch.einsum("bg,bd,gkd->bk", weight_BG, image_BD, soft_GKD)


def wanted(image_BD: Tensor, own_GBD: Tensor, top: int) -> Tensor:
    """What the router is to say (B, G): the templates that are most similar to the picture, with its label in them."""
    alike_BG = torch.einsum("bd,gbd->bg", image_BD, own_GBD)
    best_BG = torch.zeros_like(alike_BG).scatter(1, alike_BG.topk(min(top, alike_BG.shape[1]), dim=1).indices, LIFT)
    return (alike_BG + best_BG).softmax(1)


def kept_apart(soft_GKD: Tensor, hard_GKD: Tensor) -> Tensor:
    """Cross-entropy of each learned text being that of its own class among the group's hand-made ones."""
    classes_K = torch.arange(soft_GKD.shape[1], device=soft_GKD.device)
    return F.cross_entropy((soft_GKD @ hard_GKD.mT).flatten(0, 1), classes_K.repeat(len(soft_GKD)))


def answer(model: DualEncoder, labels: tuple[str, ...], numbers: dict[str, Tensor], **options: Any) -> Answer:
    """Scaled similarities; see the module."""
    contexts = [numbers[f"context_{g}"] for g in range(len(options["after"]))]
    sets = _names(model, labels, options["after"], [len(context) for context in contexts])
    with torch.no_grad():
        soft_GKD = torch.stack([names.rows(context) for names, context in zip(sets, contexts, strict=True)])

    @torch.no_grad()
    def logits(image_BD: Tensor) -> Tensor:
        rows_BD = image_BD.to(soft_GKD)
        gate_BG = F.linear(rows_BD, numbers["router"], numbers["router_bias"])
        return options["scale"] * routed(rows_BD, soft_GKD, gate_BG, options["top"]).float()

    return Answer(logits)
