"""Descriptions chosen for what they tell apart among the classes that a picture may be; and controls that show whether meaning helps.

Paper: Ma, Rietdorf et al., "Does VLM Classification Benefit from LLM Description Semantics?", arXiv:2412.11917 (the evaluation without
class names; the choice of descriptions in the local label neighbourhood).
Code: https://github.com/CompVis/DisCLIP
Relations: ``dclip-description`` takes each class's own descriptions, names in them; there random words do nearly as well, since many texts
with the name in them are an ensemble whatever else they say. Hence the controls here.

Shapes: N pictures, K classes, P descriptions of all classes together, S labelled pictures (the selection set), D joint width.

::

    alike[p, k] = mean(image[s] · text(p) for s if label[s] == k)
    near[n] = the k classes of greatest image[n] · name[k]
    for c in near[n]:
        lead[p] = mean(alike[p, c] - alike[p, e] for e in near[n])
        chosen = the m greatest lead[p] where alike[p, c] >= alike[p, e] for every e in near[n]    # own ones where there is none
        score[n, c] = (weight * image[n] · name[c] + mean(image[n] · text(p) for p in chosen)) / (weight + 1)
    logits[n, c] = scale * score[n, c]

Classes that are not near follow behind the near ones in the order of their names' similarity. A class without labelled pictures takes its
own descriptions and is not compared with, and so do all where fewer than two near classes have any; one with neither is scored by its name.
``take`` is the choice or a control: each class's ``"own"`` descriptions, or those of another class (``"shuffled"``), over all classes. With
``{name}`` in ``form`` a control shows the effect of ensembling. The paper also writes names into the chosen ones, which takes new texts for
each picture; that is not done here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from diptych.adapt.parts.blocks import in_blocks
from diptych.adapt.parts.shots import Shots
from diptych.adapt.parts.words import described, read_words
from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.towers.head import Head
from diptych.towers.rule import Answer, Rule, RuleConfig

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder

CARD = Card(
    id="description-semantics",
    name="Descriptions that tell apart",
    family="adapt",
    paper="Does VLM Classification Benefit from LLM Description Semantics?, arXiv:2412.11917",
    where="the evaluation without names and the choice in the local label neighbourhood",
    code="https://github.com/CompVis/DisCLIP",
    needs=frozenset({"labels"}),
    claim="without class names, descriptions chosen in the picture's neighbourhood beat random ones; with names, random ones help too",
    published="better accuracy across seven sets",
)
GRID = {"weight": (0.5, 1.0, 2.0, 4.0, 8.0)}


class Options(BaseModel):
    """Settings of :func:`description_semantics`.

    Args:
        descriptions: a file of descriptions; None takes keywords of the embedded corpus.
        near: how many classes are in a picture's neighbourhood.
        chosen: how many descriptions of each of them are taken.
        weight: of the class's name beside its descriptions.
        take: ``"chosen"`` in the neighbourhood, or as control each class's ``"own"``, or another's (``"shuffled"``).
        form: of a description's text, with ``{description}``; ``{name}`` goes with a control only.
        most: at most this many descriptions of a class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    descriptions: str | None = None
    near: int = Field(default=3, ge=2)
    chosen: int = Field(default=5, ge=1)
    weight: float = Field(default=1.0, ge=0.0)
    take: Literal["chosen", "own", "shuffled"] = "chosen"
    form: str = "{description}"
    most: int = Field(default=6, ge=1)


def description_semantics(
    shots: Shots,
    *,
    descriptions: str | None = None,
    near: int = 3,
    chosen: int = 5,
    weight: float = 1.0,
    take: Literal["chosen", "own", "shuffled"] = "chosen",
    form: str = "{description}",
    most: int = 6,
) -> Head | Rule:
    """The rule, or the linear head of a control; see the module.

    Raises:
        UsageError: no labelled picture, no descriptions, or a form that does not fit.
    """
    if "{description}" not in form or ("{name}" in form and take == "chosen"):
        why = "it has no {description}" if "{description}" not in form else "with names, chosen descriptions would be new for each picture"
        raise UsageError(f"form {form!r}", why, "Write '{description}', or take='own' or 'shuffled' with {name}")
    if take == "chosen" and not len(shots.label_S):
        raise UsageError("description-semantics", "there are no labelled pictures to choose by", "Give some, or take='own'")
    told = described(shots.classes, most) if descriptions is None else [one[:most] for one in read_words(descriptions, shots.classes)]
    if not any(told):
        raise UsageError("description-semantics", "nothing describes any of these classes", "Give a file with descriptions=PATH")
    if take != "chosen":
        owned = told if take == "own" else shuffled(told, shots.draw)
        rows_KD = own_rows(shots, [[_filled(form, n, d) for d in some] for n, some in zip(shots.classes, owned, strict=True)])
        made_by = f"description-semantics, {take}, weight {weight:g}, {form!r}"
        return shots.linear(shots.scale * (weight * shots.text_KD + rows_KD) / (weight + 1), made_by=made_by)
    pool = sorted({description for some in told for description in some})
    numbers = {"name": shots.text_KD, "pool": shots.texts([_filled(form, "", one) for one in pool])}
    numbers["own"] = own_rows(shots, [[_filled(form, "", one) for one in some[:chosen]] for some in told])
    count_K = shots.count_K().double()
    sum_KD = torch.zeros(len(count_K), shots.width, dtype=torch.float64).index_add_(0, shots.label_S, shots.image_SD.double())
    numbers |= {"mean": (sum_KD / count_K.clamp(min=1)[:, None]).float(), "known": (count_K > 0).float()}
    options = {"scale": shots.scale, "near": near, "chosen": chosen, "weight": weight}
    return Rule.of(RuleConfig(method=CARD.id, classes=shots.classes, options=options, reads="rows"), **numbers)


def _filled(form: str, name: str, description: str) -> str:
    return form.replace("{name}", name).replace("{description}", description)


def shuffled(told: list[tuple[str, ...]], draw: torch.Generator) -> list[tuple[str, ...]]:
    """Each class gets the descriptions of the class that follows it in a random order: never its own."""
    order = torch.randperm(len(told), generator=draw).tolist()
    found = list(told)
    for here, there in zip(order, order[1:] + order[:1], strict=True):
        found[here] = told[there]
    return found


def own_rows(shots: Shots, texts: list[list[str]]) -> Tensor:
    """Mean row (K, D) of each class's texts, not made unit; its name's row where it has none."""
    owner_T = torch.tensor([k for k, some in enumerate(texts) for _ in some])
    row_TD = shots.texts([text for some in texts for text in some]).double()
    sum_KD = torch.zeros(len(texts), shots.width, dtype=torch.float64).index_add_(0, owner_T, row_TD)
    count_K = torch.bincount(owner_T, minlength=len(texts))[:, None]
    return torch.where(count_K > 0, sum_KD / count_K.clamp(min=1), shots.text_KD.double()).float()


def answer(model: DualEncoder, labels: tuple[str, ...], numbers: dict[str, Tensor], **options: Any) -> Answer:
    """Scores of the near classes by what tells them apart; see the module."""
    name_KD, pool_PD, own_KD, weight = numbers["name"], numbers["pool"], numbers["own"], options["weight"]
    alike_KP, known_K = numbers["mean"] @ pool_PD.T, numbers["known"] > 0
    near = min(options["near"], len(name_KD))

    def logits(image_BD: Tensor) -> Tensor:
        x_BD = image_BD.to(name_KD)
        name_BK = x_BD @ name_KD.T
        top = name_BK.topk(near, dim=1)
        chosen_BkP = telling(alike_KP[top.indices], known_K[top.indices], options["chosen"])
        count_Bk = chosen_BkP.sum(2)
        mean_Bk = torch.einsum("bp,bkp->bk", x_BD @ pool_PD.T, chosen_BkP) / count_Bk.clamp(min=1)
        own_Bk = (x_BD @ own_KD.T).gather(1, top.indices)
        score_Bk = (weight * top.values + torch.where(count_Bk > 0, mean_Bk, own_Bk)) / (weight + 1)
        behind_BK = score_Bk.amin(1, keepdim=True) + name_BK - top.values[:, -1:]
        return options["scale"] * behind_BK.scatter(1, top.indices, score_Bk)

    return Answer(lambda image_BD: in_blocks(logits, image_BD, near * len(pool_PD)))


def telling(alike_BkP: Tensor, known_Bk: Tensor, most: int) -> Tensor:
    """1.0 for the at most ``most`` descriptions of each near class (B, k, P): as like it as any known near class, by the widest lead."""
    other_BkP = alike_BkP.masked_fill(~known_Bk[..., None], -torch.inf)
    mean_BP = (alike_BkP * known_Bk[..., None]).sum(1) / known_Bk.sum(1, keepdim=True).clamp(min=1)
    known_Bk = known_Bk & (known_Bk.sum(1, keepdim=True) > 1)
    fits_BkP = (alike_BkP >= other_BkP.amax(1, keepdim=True)) & known_Bk[..., None]
    lead = (alike_BkP - mean_BP[:, None]).masked_fill(~fits_BkP, -torch.inf).topk(min(most, alike_BkP.shape[2]), dim=2)
    return torch.zeros_like(alike_BkP).scatter(2, lead.indices, lead.values.isfinite().to(alike_BkP.dtype))
