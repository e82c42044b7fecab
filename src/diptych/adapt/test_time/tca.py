"""TCA: class tokens of pictures that the model was sure of guide which image tokens are condensed, and correct the logits.

Paper: Wang et al., "Is Less More? Exploring Token Condensation as Training-free Test-time Adaptation", ICCV 2025, arXiv:2410.14729:
the reservoir of domain anchors, token reduction with an anchor, the logits' self-correction.
Code: https://github.com/Jo-wang/TCA
Relations: ``evit`` keeps the tokens that the class token attends to, with no memory; ``tda`` corrects logits by final rows.

Shapes: K classes, M places a class, L blocks, W width of the tower, N patch tokens, T tokens, D joint width.

::

    for each picture in its order:
        before each chosen block l: anchor = the mean class token of l - 1 of the class whose one is most like the picture's own
            attention of block l sees the anchor as one more token, which then goes; a = the class token's attention to each patch
            of the patches, by a: the highest stay, the next (two thirds of the others) are merged round centres, the last are fused
        c[l] = class token behind block l;   zero = scale * image · text;   k = argmax(zero);   H = entropy(softmax(zero))
        keep (c, H) in reservoir[k]; of more than M, the one of highest H + mean likeness to the others goes
        like(c, c') = sum(w[l] * cosine(c[l], c'[l]) for l);   w[l] = exp(l / (L - 1) / scale) / their sum
        logits[k] = zero[k] + weight * sum(exp(-beta * (1 - like(c, c'))) for c' of reservoir[k])

    centres: the token of highest a, then by turns that farthest from all chosen ones; every token goes to its nearest centre;
             a merged token is its members' mean, weighted by 1 / distance, the centre itself by 1
    fused = sum(a[i] * x[i])                                                     # as in EViT

This is what the published code computes, where the heads' attention is averaged (the paper ranks tokens in each head and averages
ranks) and centres begin with a random token. A class gives an anchor once it has two pictures; the code waits for all classes. The
paper's sets have weights and sharpness of their own; the defaults are ``tda``'s. ``ratio`` is the share of patches gone in the end, as
for ``evit``; blocks are those after each quarter of the depth.

Towers without a class token (the mean-token form): the mean of the patch tokens stands for it, a is the softmax of the mean key's
products with the keys, and the fused token is the plain mean of its members, since it is pooled with the others.

Memory (``reset``, see :mod:`diptych.adapt.parts.stream`): ``"stream"`` empties the reservoir at a reset, ``"never"`` keeps it over it;
``"each"`` would leave no anchor and is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.condense import Condense
from diptych.adapt.parts.stream import Reset, check_remembers, entropy, forgetting, words
from diptych.adapt.parts.work import Work
from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.towers.base import check_tokens
from diptych.towers.encode import evaluating
from diptych.towers.rule import Answer, Rule, RuleConfig

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder

CARD = Card(
    id="tca",
    name="TCA",
    family="adapt",
    paper="Is Less More? Exploring Token Condensation as Training-free Test-time Adaptation, arXiv:2410.14729",
    where="reservoir, token reduction, logits self-correction",
    code="https://github.com/Jo-wang/TCA",
    needs=frozenset({"towers"}),
    claim="fewer tokens and better answers at once on shifted pictures, without training",
    published="up to 21.4 % better than the strongest baseline with 12.2 to 48.9 % fewer GFLOPs, CLIP and SigLIP (abstract)",
)
GRID: dict[str, tuple[float, ...]] = {}


class Options(BaseModel):
    """Settings of :func:`tca`.

    Args:
        ratio: share of the patch tokens that is gone in the end; 0 condenses nothing and only corrects the logits.
        centres: tokens that the middle ones become in a block, fewer where there is no room.
        capacity: M, places a class in the reservoir.
        weight: of the correction; 0 leaves it out.
        beta: sharpness of the likeness.
        scale: how much more later blocks count in a likeness; smaller is more.
        anchors: the attention of the chosen blocks sees an anchor.
        reset: when the reservoir is emptied; ``"each"`` is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    ratio: float = Field(default=0.3, ge=0.0, lt=1.0)
    centres: int = Field(default=4, ge=1)
    capacity: int = Field(default=3, ge=1)
    weight: float = Field(default=2.0, ge=0.0)
    beta: float = Field(default=5.0, gt=0.0)
    scale: float = Field(default=0.5, gt=0.0)
    anchors: bool = True
    reset: Reset = "stream"


def tca(
    work: Work,
    *,
    ratio: float = 0.3,
    centres: int = 4,
    capacity: int = 3,
    weight: float = 2.0,
    beta: float = 5.0,
    scale: float = 0.5,
    anchors: bool = True,
    reset: Reset = "stream",
) -> Rule:
    """The rule; it begins with an empty reservoir, looks at no picture before, and answers for any names. See the module.

    Raises:
        UsageError: ``reset="each"``, or an image tower without tokens in blocks.
    """
    check_remembers(CARD.id, reset)
    if work.model.prompts is not None and work.model.prompts.config.image:
        raise UsageError(f"model {work.model.config.name!r}", "its image tower reads prompts, which would be condensed", "Use its parent")
    check_tokens(work.model.image, Condense(work.model.image.gives, ratio, centres))
    options = {"templates": list(work.shots.templates), "ratio": ratio, "centres": centres, "capacity": capacity, "weight": weight}
    options |= {"beta": beta, "scale": scale, "anchors": anchors, "reset": reset}
    return Rule.of(RuleConfig(method=CARD.id, options=options, reads="pixels"))


class Reservoir:
    """Class tokens of sure pictures, a few for each class.

    Args:
        capacity: M.
        scale: see :class:`Options`.
    """

    def __init__(self, capacity: int, scale: float) -> None:
        self.capacity, self.scale = capacity, scale
        self.items: dict[int, list[tuple[float, Tensor]]] = {}

    def alike(self, one_LW: Tensor, many_MLW: Tensor) -> Tensor:
        """Weighted cosine (M,) over the blocks."""
        depth = len(one_LW)
        weight_L = (torch.linspace(0, 1, depth, device=one_LW.device, dtype=one_LW.dtype) / self.scale).softmax(0)
        return F.cosine_similarity(one_LW, many_MLW, dim=-1) @ weight_L

    def keep(self, at: int, uncertain: float, token_LW: Tensor) -> None:
        """Put a picture's class tokens into class ``at``; of too many the least sure and least different one goes."""
        items = self.items.setdefault(at, [])
        items.append((uncertain, token_LW))
        if len(items) <= self.capacity:
            return
        many_MLW = torch.stack([token for _, token in items])
        others = max(1, len(items) - 1)
        worth = [h + float((self.alike(token, many_MLW).sum() - 1) / others) for h, token in items]
        items.pop(max(range(len(items)), key=worth.__getitem__))

    def anchors(self) -> Tensor | None:
        """Mean class tokens (A, L, W) of the classes that have two pictures; None where there is none."""
        found = [torch.stack([token for _, token in items]).mean(0) for _, items in sorted(self.items.items()) if len(items) > 1]
        return torch.stack(found) if found else None

    def logits(self, token_LW: Tensor, classes: int, beta: float) -> Tensor:
        """What the kept pictures say of one, (K,)."""
        made_K = token_LW.new_zeros(classes)
        for at, items in self.items.items():
            made_K[at] = torch.exp(-beta * (1 - self.alike(token_LW, torch.stack([token for _, token in items])))).sum()
        return made_K


def answer(model: DualEncoder, labels: tuple[str, ...], numbers: dict[str, Tensor], **options: Any) -> Answer:
    """Logits of a stream of pictures; see the module."""
    text_KD, scale = words(model, labels, options["templates"]), model.scale.detach()
    reservoir = Reservoir(options["capacity"], options["scale"])
    method = Condense(model.image.gives, options["ratio"], options["centres"])

    def one(picture_CHW: Tensor) -> Tensor:
        method.anchor_ALW = reservoir.anchors() if options["anchors"] else None
        image_D = model.image_features(picture_CHW[None], tokens=method)[0]
        zero_K = scale * text_KD.to(image_D) @ image_D
        token_LW = method.seen_LW()
        reservoir.keep(int(zero_K.argmax()), float(entropy(zero_K)), token_LW)
        return zero_K + options["weight"] * reservoir.logits(token_LW, len(labels), options["beta"])

    def logits(pixels_BCHW: Tensor) -> Tensor:
        with evaluating(model):
            found = [one(picture_CHW).float() for picture_CHW in pixels_BCHW]
        return torch.stack(found) if found else text_KD.new_zeros(0, len(labels))

    return Answer(logits, forgetting(options["reset"], reservoir.items.clear))
