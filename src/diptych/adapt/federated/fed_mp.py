"""Fed-MP: clients with classes of their own train small adapters, joined by how close their classes are to those that will be asked.

Paper: Zeng et al., "Open-Vocabulary Federated Learning with Multimodal Prototyping", NAACL 2024, arXiv:2404.01232 (adapters and client
residuals, adaptive aggregation, multimodal prototypes).
Code: https://github.com/huiminzeng/Fed-MP
Relations: ``aggregation="fedavg"`` is federated averaging (McMahan et al., arXiv:1602.05629); ``clip-adapter`` has another adapter and one
owner.

Shapes: S labelled pictures, U pictures without labels, K classes asked (seen by a client or not), C classes of a client, D joint width.

::

    attend(x) = softmax(tanh(x @ down.T + low) @ up.T + high);  adapted(x) = unit(attend(x) * x)
    repeat rounds times:
        every client, from the joint adapter: own residual[c], Adam on
            cross_entropy(scale * adapted(image[s]) · unit(text[c] + residual_weight * residual[c]))      # over its classes
        closeness[client] = mean(sum(cos(text[k], text[c] + residual_weight * residual[c]) for c) for k of all K classes)
        adapter = sum(closeness * adapter of the client) / sum(closeness)                                # residuals stay at home
    for pictures without labels, 18 at a time:
        prototype[k] = unit(text[k] + mean(adapted(x) of the pictures taken for k, so far))        # text[k] until every class has one
        a picture is taken for its class where the entropy of its answer is below uncertainty * log K
    logits = scale * adapted(image) · prototype

Here the clients are simulated: the classes with labelled pictures are dealt out among them, and the pool stands for the stream of a new
user's pictures. What differs from the published code: it contrasts pictures with words within a batch, where two pictures of one class push
each other apart, and here the client's classes are told apart; it starts residuals at random, which hides the class names, and so does
``noise`` (the length of that start beside a text row's 1). As there, prototypes wait until every class has a picture: pictures lie apart
from words, so that a class with one would draw pictures from those without.
Its adapter reads rows before they are set to length 1, its Adam decays by 0.2, and a client keeps its best epoch on pictures held out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Generator, Tensor
from torch.nn import functional as F

from diptych.adapt.parts.shots import Shots
from diptych.adapt.parts.train import fit
from diptych.core.card import Card
from diptych.towers.rule import Answer, Rule, RuleConfig

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder

CARD = Card(
    id="fed-mp",
    name="Fed-MP",
    family="adapt",
    paper="Open-Vocabulary Federated Learning with Multimodal Prototyping, arXiv:2404.01232",
    where="adaptive aggregation and multimodal prototyping",
    code="https://github.com/huiminzeng/Fed-MP",
    needs=frozenset({"labels", "unlabelled"}),
    claim="names classes that no client has labels of better than federated averaging",
    published="better on unseen classes of various sets (abstract, no figures)",
)
GRID = {"lr": (5e-5, 1e-3)}
STREAM = 18  # pictures of a new user that are looked at together


class Options(BaseModel):
    """Settings of :func:`fed_mp`.

    Args:
        clients: among which the labelled classes are dealt out.
        aggregation: of their adapters: ``"closeness"``, or by their pictures, ``"fedavg"``.
        prototypes: the answers of the pool are added to the words.
        rounds: of aggregation.
        epochs: of a client in a round.
        lr: of Adam.
        residual_weight: of a client's residual beside its words.
        noise: length of the random start of a residual.
        uncertainty: share of the largest entropy below which a picture of the pool is taken for its class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    clients: int = Field(default=3, ge=1)
    aggregation: Literal["closeness", "fedavg"] = "closeness"
    prototypes: bool = True
    rounds: int = Field(default=2, ge=1)
    epochs: int = Field(default=2, ge=1)
    lr: float = Field(default=5e-5, gt=0.0)
    residual_weight: float = Field(default=0.3, ge=0.0)
    noise: float = Field(default=1.0, ge=0.0)
    uncertainty: float = Field(default=0.1, ge=0.0, le=1.0)


def fed_mp(
    shots: Shots,
    *,
    clients: int = 3,
    aggregation: Literal["closeness", "fedavg"] = "closeness",
    prototypes: bool = True,
    rounds: int = 2,
    epochs: int = 2,
    lr: float = 5e-5,
    residual_weight: float = 0.3,
    noise: float = 1.0,
    uncertainty: float = 0.1,
) -> Rule:
    """The rule: the joint adapter and the prototypes; see the module."""
    adapter = started(shots.width, shots.draw)
    held = shots.count_K().nonzero()[:, 0]
    dealt = [part for part in held[torch.randperm(len(held), generator=shots.draw)].tensor_split(clients) if len(part)]
    for _ in range(rounds):
        trained = [client(shots, adapter, own_C, lr=lr, epochs=epochs, residual_weight=residual_weight, noise=noise) for own_C in dealt]
        weights = [closeness(shots.text_KD, text_CD) for _, text_CD in trained]
        if aggregation == "fedavg":
            weights = [float(shots.count_K()[own_C].sum()) for own_C in dealt]
        adapter = joined([own for own, _ in trained], weights)
    free_UD = shots.pool_UD if prototypes else shots.pool_UD[:0]
    prototype_KD = multimodal(adapted(free_UD, adapter), shots.text_KD, shots.scale, uncertainty)
    config = RuleConfig(method=CARD.id, classes=shots.classes, options={"scale": shots.scale})
    return Rule.of(config, prototype=prototype_KD, **adapter)


def answer(model: DualEncoder, labels: tuple[str, ...], numbers: dict[str, Tensor], **options: Any) -> Answer:
    """Adapted rows against the prototypes; see the module."""
    adapter = {name: value for name, value in numbers.items() if name != "prototype"}
    return Answer(lambda image_BD: options["scale"] * adapted(image_BD.to(numbers["prototype"]), adapter) @ numbers["prototype"].T)


def started(width: int, draw: Generator) -> dict[str, Tensor]:
    """An adapter whose layers start as torch's do, from ``draw``."""
    shapes = {"down": (width, width), "low": (width,), "up": (width, width), "high": (width,)}
    return {name: (torch.rand(shape, generator=draw) * 2 - 1) / math.sqrt(width) for name, shape in shapes.items()}


def adapted(row_ND: Tensor, adapter: dict[str, Tensor]) -> Tensor:
    """Unit rows weighed number by number by what the adapter attends to."""
    inner_ND = torch.tanh(row_ND @ adapter["down"].T + adapter["low"])
    return F.normalize((inner_ND @ adapter["up"].T + adapter["high"]).softmax(1) * row_ND, dim=1)


def client(
    shots: Shots, adapter: dict[str, Tensor], classes_C: Tensor, *, lr: float, epochs: int, residual_weight: float, noise: float
) -> tuple[dict[str, Tensor], Tensor]:
    """A client's adapter, and its words with their residuals (C, D), after its epochs."""
    own = {name: value.clone().requires_grad_() for name, value in adapter.items()}
    text_CD = shots.text_KD[classes_C]
    residual_CD = (noise / math.sqrt(shots.width) * torch.randn(text_CD.shape, generator=shots.draw)).requires_grad_()
    mine_S = torch.isin(shots.label_S, classes_C)
    image_SD, label_S = shots.image_SD[mine_S], (shots.label_S[mine_S, None] == classes_C).int().argmax(1)

    def loss(index_B: Tensor) -> Tensor:
        word_CD = F.normalize(text_CD + residual_weight * residual_CD, dim=1)
        return F.cross_entropy(shots.scale * adapted(image_SD[index_B], own) @ word_CD.T, label_S[index_B])

    fit([*own.values(), residual_CD], loss, len(image_SD), shots.draw, epochs=epochs, lr=lr, batch=STREAM, optimizer=torch.optim.Adam)
    return {name: value.detach() for name, value in own.items()}, (text_CD + residual_weight * residual_CD).detach()


def closeness(text_KD: Tensor, word_CD: Tensor) -> float:
    """Of a client's words to all that will be asked: the cosines, added over the client's and averaged over the asked; at least 1e-6."""
    return max(float((F.normalize(text_KD, dim=1) @ F.normalize(word_CD, dim=1).T).sum(1).mean()), 1e-6)


def joined(adapters: list[dict[str, Tensor]], weights: list[float]) -> dict[str, Tensor]:
    """The weighted mean of the clients' adapters."""
    total = sum(weights)
    return {name: sum(w * own[name] for w, own in zip(weights, adapters, strict=True)) / total for name in adapters[0]}  # type: ignore[misc]


def multimodal(free_UD: Tensor, text_KD: Tensor, scale: float, uncertainty: float) -> Tensor:
    """Unit prototypes (K, D) after the stream of adapted pictures."""
    sum_KD, count_K = torch.zeros_like(text_KD), torch.zeros_like(text_KD[:, 0])
    prototype_KD = text_KD
    for part_BD in free_UD.split(STREAM):
        chance_BK = (scale * part_BD @ prototype_KD.T).softmax(1)
        entropy_B = torch.special.entr(chance_BK).sum(1)
        sure = entropy_B < uncertainty * math.log(len(text_KD))
        said_B = chance_BK.argmax(1)[sure]
        sum_KD.index_add_(0, said_B, part_BD[sure])
        count_K.index_add_(0, said_B, torch.ones_like(entropy_B[sure]))
        seen_KD = F.normalize(text_KD + sum_KD / count_K.clamp(min=1)[:, None], dim=1)
        prototype_KD = torch.where((count_K > 0).all(), seen_KD, text_KD)
    return prototype_KD
