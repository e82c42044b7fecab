"""TPT: for each picture the words in front of the class names are tuned, until confident views of the picture agree on what it is.

Paper: Shu et al., "Test-Time Prompt Tuning for Zero-Shot Generalization in Vision-Language Models", NeurIPS 2022, arXiv:2209.07511,
section 3.2 (equations 4 to 6: entropy of the mean prediction, confidence selection).
Code: https://github.com/azshue/TPT
Relations: ``coop`` learns the same context from labels; ``rlcf`` asks a second model instead of trusting this one; ``tda`` has no gradient.

Shapes: B pictures, V views, C chosen views, K classes, M context tokens, W width of the text tower, D joint width.

::

    context = start                                                   # of each picture, with reset="each"
    views = [picture] + (V - 1) random crops, half of them mirrored
    repeat steps times:
        p[v] = softmax(scale * image[v] · text(context, class k) over k)
        chosen = the max(1, floor(share * V)) views of lowest entropy of p[v]          # by the first step's p
        loss = entropy(mean(p[v] for v in chosen))
        context <- AdamW step
    logits = scale * image[0] · text(context, class k)

The paper: 63 crops, a share of 0.1, one step at learning rate 5e-3, the words "a photo of a" as start. Here the start is what stands before
the class in the first template that has words there, else those words; what follows the class there follows it here. Crops have the
picture's own aspect and at least ``crop`` of its area; the paper's are torchvision's (0.08 of the area, aspects from 3/4 to 4/3). Views
are made of the picture as the model reads it. AugMix, which the paper's code adds on fine-grained sets, is left out.

The same seed cuts every picture in the same way, so an answer does not depend on what was asked before (``reset="each"``, the paper's).
Memory otherwise (see :mod:`diptych.adapt.parts.stream`): ``"stream"`` goes on with the context and the optimiser's moments of the picture
before until a reset, ``"never"`` over resets too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from diptych.adapt.parts.context import Names, frozen, token_rows
from diptych.adapt.parts.stream import Reset, entropy, forgetting
from diptych.adapt.parts.views import prompt, views_of
from diptych.adapt.parts.work import Work
from diptych.core.card import Card
from diptych.towers.encode import evaluating
from diptych.towers.rule import Answer, Rule, RuleConfig

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder

CARD = Card(
    id="tpt",
    name="TPT",
    family="adapt",
    paper="Test-Time Prompt Tuning for Zero-Shot Generalization in Vision-Language Models, arXiv:2209.07511",
    where="section 3.2, equations 4 to 6",
    code="https://github.com/azshue/TPT",
    needs=frozenset({"towers"}),
    claim="zero-shot accuracy under natural shift rises with each picture alone, no label and no other picture",
    published="+3.6 points on the mean of ImageNet's shifted variants over CLIP with one fixed prompt (abstract)",
)
GRID: dict[str, tuple[float, ...]] = {}


class Options(BaseModel):
    """Settings of :func:`tpt`.

    Args:
        views: V, the picture itself included.
        share: of the views that are confident enough, at least one.
        steps: of the optimiser for a picture.
        lr: learning rate of AdamW.
        crop: smallest share of the area that a view shows.
        words: what stands before the class at first; None takes it from the templates.
        reset: when the context returns to its start.
        seed: of the crops.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    views: int = Field(default=64, ge=1)
    share: float = Field(default=0.1, gt=0.0, le=1.0)
    steps: int = Field(default=1, ge=1)
    lr: float = Field(default=5e-3, gt=0.0)
    crop: float = Field(default=0.08, gt=0.0, le=1.0)
    words: str | None = None
    reset: Reset = "each"
    seed: int = 0


def tpt(
    work: Work,
    *,
    views: int = 64,
    share: float = 0.1,
    steps: int = 1,
    lr: float = 5e-3,
    crop: float = 0.08,
    words: str | None = None,
    reset: Reset = "each",
    seed: int = 0,
) -> Rule:
    """The rule; its numbers are the context's start (M, W), no picture is looked at, and it answers for any names. See the module.

    Raises:
        UsageError: the model reads prompts already, or its text tower has no place for the context.
    """
    model = frozen(work)
    before, after = prompt(work.shots.templates) if words is None else (words, "{}.")
    start_MW = token_rows(model, before)
    Names(model, [after], len(start_MW))
    options = {"views": views, "share": share, "steps": steps, "lr": lr, "crop": crop, "after": after, "reset": reset, "seed": seed}
    return Rule.of(RuleConfig(method=CARD.id, options=options, reads="pixels"), context=start_MW)


def agreement(logits_CK: Tensor) -> Tensor:
    """Entropy in nats of the mean of C predictions, a scalar (equations 4 and 5)."""
    mean_K = logits_CK.log_softmax(-1).logsumexp(0) - math.log(len(logits_CK))
    return -(mean_K.exp() * mean_K).sum()


class Context:
    """A context that is tuned and can be put back to its start."""

    def __init__(self, start_MW: Tensor, lr: float) -> None:
        self.start_MW, self.lr = start_MW, lr
        self.renew()

    def renew(self) -> None:
        """Back to the start, the optimiser's moments too."""
        self.now_MW = self.start_MW.clone().requires_grad_()
        self.optimizer = torch.optim.AdamW([self.now_MW], lr=self.lr)

    def step(self, loss: Tensor) -> None:
        """One step; nothing but the context gets a gradient."""
        self.now_MW.grad = torch.autograd.grad(loss, self.now_MW)[0]
        self.optimizer.step()


def answer(model: DualEncoder, labels: tuple[str, ...], numbers: dict[str, Tensor], **options: Any) -> Answer:
    """Logits of pictures, each by a context of its own; see the module."""
    scale = model.scale.detach()
    context = Context(numbers["context"].to(scale), options["lr"])
    names = Names(model, [options["after"].replace("{}", label) for label in labels], len(context.start_MW))

    def one(picture_CHW: Tensor) -> Tensor:
        if options["reset"] == "each":
            context.renew()
        with torch.no_grad():
            seen_VCHW = views_of(picture_CHW, options["views"], options["crop"], options["seed"])
            image_VD = scale * model.image_features(seen_VCHW)
        chosen_C: Tensor | None = None
        for _ in range(options["steps"]):
            logits_VK = image_VD @ names.rows(context.now_MW).T
            if chosen_C is None:
                count = max(1, int(options["share"] * len(image_VD)))
                chosen_C = entropy(logits_VK.detach()).argsort(stable=True)[:count]
            context.step(agreement(logits_VK[chosen_C]))
        with torch.no_grad():
            return image_VD[0] @ names.rows(context.now_MW).T

    def logits(pixels_BCHW: Tensor) -> Tensor:
        with evaluating(model), torch.enable_grad():
            found = [one(picture_CHW).detach().float() for picture_CHW in pixels_BCHW]
        return torch.stack(found) if found else scale.new_zeros(0, len(labels), dtype=torch.float32)

    return Answer(logits, forgetting(options["reset"], context.renew))
