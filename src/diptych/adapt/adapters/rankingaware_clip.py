"""Ranking-aware adapter: pictures in the order that one instruction asks for, by a small adapter on patch tokens, which learns from the
differences between pictures besides.

Paper: Yu, Lin, Yang and Tsai, "Ranking-aware adapter for text-driven image ordering with CLIP", arXiv:2412.06760
(text-conditioned embedding, regression and ranking heads).
Code: https://github.com/uynaes/RankingAwareCLIP
Relations: ``linear-probe`` names the levels as if they had no order; the protocol ``ordering`` asks for an order by two opposite texts.
The classes are the levels, in ascending order ("one", "two", …); a picture's level y is its class's index. The towers stay as they are.
Shapes: B pictures, T patch tokens, W and V widths of the towers, L tokens of the instruction, M ranking prompts, R rank tokens, H width
of the adapter, K levels.

::

    token[b] = norm(image_tower tokens of picture b) @ inwards                     # (T, H)
    word = norm(text_tower tokens of the instruction) @ wordwards, and M learned ranking prompts     # (L + M, H)
    seen[b] = token[b] + softmax(token[b] @ word.T / sqrt(H)) @ word                                 # text-conditioned
    score[b] = relu(mean_t(norm(seen[b])) @ hide + shift) · out + level0

    away = norm(seen[i]) - norm(seen[j])                                           # (T, H), the difference of two pictures
    pair[i, j] = relu(mean_r(softmax(rank @ away.T / sqrt(H)) @ away) @ pair_hide) · pair_out
    loss = mean((score[b] - z[b])²) + ranking * mean(log(1 + exp(-sign(y[i] - y[j]) * pair[i, j])) for y[i] != y[j])

``z`` is y with mean 0 and deviation 1. Only the score is used to answer: the pairs teach what it is made of. The paper has several layers
of attention with several heads where this has one, and sums where this takes means. In its code the ranks look at the tokens of both
pictures together (one softmax over all 2T) and the pair is what they see in the first less what they see in the second; regression is
0.2 of log(1 + smooth L1), and pairs of one level count as not above; 32 ranking prompts and 16 rank tokens.

What comes back is a rule that reads pictures, since the order is asked for by an instruction and made of patches, which no head on rows
can say: its logits are ``-(level of the score - k)² / (2 * spread²)``, so that pictures are named and, by :func:`scores`, put in order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Generator, Tensor
from torch.nn import functional as F

from diptych.adapt.attach import copy_of
from diptych.adapt.parts.patches import tokens, words
from diptych.adapt.parts.supervised import descend
from diptych.adapt.parts.work import Work
from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.towers.dual import DualEncoder
from diptych.towers.rule import Answer, Rule, RuleConfig

CARD = Card(
    id="rankingaware-clip",
    name="Ranking-aware adapter",
    family="adapt",
    paper="Ranking-aware adapter for text-driven image ordering with CLIP, arXiv:2412.06760",
    where="text-conditioned embedding, relational attention, the two heads",
    code="https://github.com/uynaes/RankingAwareCLIP",
    needs=frozenset({"labels", "towers"}),
    claim="learning from text-conditioned differences orders pictures better than regression on CLIP and than CLIP itself",
    published="consistently above fine-tuned CLIP on counts, image quality, age and date (abstract)",
)
GRID: dict[str, tuple[object, ...]] = {}
KEEP = 2**27  # numbers of patch tokens that are kept; beyond, pictures are encoded at every step


class Options(BaseModel):
    """Settings of :func:`rankingaware_clip`.

    Args:
        instruction: what the pictures are put in order by.
        ranking: weight of the loss on pairs; 0 is regression alone.
        width: H.
        prompts: learned ranking prompts beside the instruction's tokens.
        ranks: rank tokens that look at differences.
        steps: of the optimiser, rounded up to whole passes over the labelled pictures.
        lr: first learning rate.
        batch: pictures in a step, all of whose pairs are compared.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    instruction: str = Field(default="the number of things", min_length=1)
    ranking: float = Field(default=1.0, ge=0.0)
    width: int = Field(default=64, ge=1)
    prompts: int = Field(default=4, ge=1)
    ranks: int = Field(default=4, ge=1)
    steps: int = Field(default=400, ge=1)
    lr: float = Field(default=2e-3, gt=0.0)
    batch: int = Field(default=32, ge=2)


def rankingaware_clip(
    work: Work,
    *,
    instruction: str = "the number of things",
    ranking: float = 1.0,
    width: int = 64,
    prompts: int = 4,
    ranks: int = 4,
    steps: int = 400,
    lr: float = 2e-3,
    batch: int = 32,
) -> Rule:
    """The rule; see the module.

    Raises:
        UsageError: all labelled pictures are of one level, or the model has no tokenizer.
    """
    model, level_S = copy_of(work.model), work.shots.label_S.float()
    if bool((level_S == level_S[0]).all()):
        raise UsageError("method 'rankingaware-clip'", "all labelled pictures are of one level", "Give pictures of several levels")
    mean, deviation = float(level_S.mean()), float(level_S.std(correction=0))
    target_S, word_LV = ((level_S - mean) / deviation).to(model.device), words(model, instruction)
    index_S = torch.arange(len(level_S))
    first_1TW = tokens(model, work.pictures(index_S[:1]))
    keep = len(level_S) * first_1TW.numel() <= KEEP
    kept_STW = torch.cat([tokens(model, work.pictures(part)) for part in index_S.split(64)]) if keep else None
    numbers = begin(first_1TW.shape[2], word_LV.shape[1], width, prompts, ranks, work.shots.draw)
    trained = {name: torch.nn.Parameter(value.to(model.device)) for name, value in numbers.items()}

    def loss_of(index_B: Tensor) -> Tensor:
        token_BTW = tokens(model, work.pictures(index_B)) if kept_STW is None else kept_STW[index_B.to(kept_STW.device)]
        seen_BTH = seen(trained, token_BTW, word_LV)
        target_B = target_S[index_B.to(target_S.device)]
        return F.mse_loss(score(trained, seen_BTH), target_B) + ranking * ordered(trained, seen_BTH, target_B)

    descend(work, trained.values(), loss_of, steps=steps, lr=lr, batch=batch, decay=0.01)
    with torch.no_grad():
        found_S = torch.cat([scores(model, trained, work.pictures(part), word_LV) for part in index_S.split(64)])
    spread = max(float((found_S - target_S).square().mean().sqrt()) * deviation, 0.1)
    options = {"instruction": instruction, "mean": mean, "deviation": deviation, "spread": spread}
    config = RuleConfig(method=CARD.id, classes=work.shots.classes, options=options, reads="pixels")
    return Rule.of(config, **{name: value.detach().cpu() for name, value in trained.items()})


def answer(
    model: DualEncoder,
    labels: Sequence[str],
    numbers: Mapping[str, Tensor],
    *,
    instruction: str,
    mean: float,
    deviation: float,
    spread: float,
) -> Answer:
    """Logits of the levels, highest at the one that the score is nearest to."""
    word_LV = words(model, instruction)
    level_K = torch.arange(len(labels), device=model.device)

    @torch.no_grad()
    def logits(pixels_BCHW: Tensor) -> Tensor:
        level_B = mean + deviation * scores(model, numbers, pixels_BCHW, word_LV)
        return -(level_B[:, None] - level_K).square() / (2 * spread**2)

    return Answer(logits)


def scores(model: DualEncoder, numbers: Mapping[str, Tensor], pixels_BCHW: Tensor, word_LV: Tensor) -> Tensor:
    """What uint8 pictures are put in order by (B,), ascending with the level."""
    return score(numbers, seen(numbers, tokens(model, pixels_BCHW), word_LV))


def begin(image: int, text: int, width: int, prompts: int, ranks: int, draw: Generator) -> dict[str, Tensor]:
    """The adapter's numbers before training: normal, each matrix of deviation 1 / √(its inputs); the outputs begin at zero."""
    shapes = {"inwards": (image, width), "wordwards": (text, width), "hide": (width, width), "pair_hide": (width, width)}
    made = {name: torch.randn(shape, generator=draw) / math.sqrt(shape[0]) for name, shape in shapes.items()}
    made |= {name: torch.randn(count, width, generator=draw) / math.sqrt(width) for name, count in (("prompt", prompts), ("rank", ranks))}
    return made | {"shift": torch.zeros(width), "out": torch.zeros(width), "level0": torch.zeros(()), "pair_out": torch.zeros(width)}


def normed(x: Tensor) -> Tensor:
    """Layer norm without gain and bias over the last axis."""
    return F.layer_norm(x, x.shape[-1:])


def seen(numbers: Mapping[str, Tensor], token_BTW: Tensor, word_LV: Tensor) -> Tensor:
    """Text-conditioned tokens (B, T, H), normed."""
    token_BTH = normed(token_BTW) @ numbers["inwards"]
    word_LH = torch.cat([normed(word_LV) @ numbers["wordwards"], numbers["prompt"]])
    share_BTL = (token_BTH @ word_LH.T / math.sqrt(word_LH.shape[1])).softmax(-1)
    return normed(token_BTH + share_BTL @ word_LH)


def score(numbers: Mapping[str, Tensor], seen_BTH: Tensor) -> Tensor:
    """Of each picture (B,), in deviations of the level from its mean."""
    return F.relu(seen_BTH.mean(1) @ numbers["hide"] + numbers["shift"]) @ numbers["out"] + numbers["level0"]


def ordered(numbers: Mapping[str, Tensor], seen_BTH: Tensor, target_B: Tensor) -> Tensor:
    """The loss of all ordered pairs of pictures of different levels; 0 where there is none."""
    first, second = (target_B[:, None] != target_B[None]).nonzero(as_tuple=True)
    if not len(first):
        return seen_BTH.sum() * 0
    away_QTH = seen_BTH[first] - seen_BTH[second]
    share_QRT = (numbers["rank"] @ away_QTH.mT / math.sqrt(away_QTH.shape[2])).softmax(-1)
    pair_Q = F.relu((share_QRT @ away_QTH).mean(1) @ numbers["pair_hide"]) @ numbers["pair_out"]
    return F.softplus(-(target_B[first] - target_B[second]).sign() * pair_Q).mean()
