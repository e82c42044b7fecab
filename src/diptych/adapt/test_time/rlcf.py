"""RLCF: for each picture a second model judges the likeliest classes, and a policy gradient makes those more likely that it prefers.

Paper: Zhao et al., "Test-Time Adaptation with CLIP Reward for Zero-Shot Generalization in Vision-Language Models", ICLR 2024,
arXiv:2305.18010 (the reward with its baseline, REINFORCE, classification with prompts or the image encoder, momentum buffer).
Code: https://github.com/mzhaoshuai/RLCF
Relations: ``tpt`` has the same views and context, and trusts the model's own entropy.

Shapes: B pictures, V views, C chosen views, K classes, S sampled classes of a view, M context tokens, W width of the text tower.

::

    tuned = start                                                # context, or gains and biases of the image tower's layer norms
    views = [picture] + (V - 1) crops                            # as in TPT
    repeat steps times:
        logits[v] = scale * image[v] · text[k]
        chosen = the max(1, floor(share * V)) views of lowest entropy                   # by the first step's logits
        for v in chosen, for k in the S classes of highest logits[v]:
            score[v, k] = 2.5 * max(0, judge_image[v] · judge_text[k])                   # CLIPScore of the second model
            reward[v, k] = score[v, k] - mean(score[v, k'] for the S classes k')
        loss = mean(-reward[v, k] * log softmax(logits[v])[k])
        tuned <- AdamW step
    logits of the picture itself

"Sampling" is the paper's: the S likeliest classes. For classification it takes S = 3, three steps and a learning rate of 7e-3 for prompts;
of the image encoder it tunes all weights at 1e-5, here only the layer norms, at 1e-3. Weight decay 5e-4. Views are made at the size of the
model that is adapted and enlarged for the judge (bicubic), as in the code. Both models use the same templates, the tuned context one.

Memory (``reset``, see :mod:`diptych.adapt.parts.stream`): ``"each"`` starts every picture from the parent. In a ``"stream"`` the start
follows what was tuned, ``start <- momentum * start + (1 - momentum) * tuned`` after each picture (the paper's buffer, which it copies to
the start every 64 pictures), until a reset; ``"never"`` over resets too. The optimiser's moments begin anew with every picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.attach import norms
from diptych.adapt.parts.context import Names, frozen, token_rows
from diptych.adapt.parts.judge import judge, student
from diptych.adapt.parts.stream import Reset, entropy, forgetting, words
from diptych.adapt.parts.views import prompt, views_of
from diptych.adapt.parts.work import Work
from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.towers.encode import evaluating
from diptych.towers.rule import Answer, Rule, RuleConfig

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder

CARD = Card(
    id="rlcf",
    name="RLCF",
    family="adapt",
    paper="Test-Time Adaptation with CLIP Reward for Zero-Shot Generalization in Vision-Language Models, arXiv:2305.18010",
    where="the reward, REINFORCE and the momentum buffer",
    code="https://github.com/mzhaoshuai/RLCF",
    needs=frozenset({"towers"}),
    claim="a stronger model's feedback makes a weaker one better at test time than minimising its own entropy does",
    published="improves the zero-shot generalisation of several models over entropy minimisation (abstract)",
)
GRID: dict[str, tuple[float, ...]] = {}
Tunes = Literal["prompt", "norms"]
RATES = {"prompt": 7e-3, "norms": 1e-3}
MOMENTUM = 0.999


class Options(BaseModel):
    """Settings of :func:`rlcf`.

    Args:
        reward: the second model, as ``diptych.load`` takes it.
        tunes: the ``"prompt"`` in front of the classes, or the image tower's layer ``"norms"``.
        sample: S.
        views, share, steps, crop, words, seed: as in ``tpt``; ``words`` belongs to the prompt.
        lr: learning rate of AdamW; None is 7e-3 for the prompt and 1e-3 for the norms.
        momentum: of the start in a stream; None is 0.999. It has no meaning with ``reset="each"``.
        reset: when the start returns to the parent's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    reward: str = "pocket"
    tunes: Tunes = "prompt"
    sample: int = Field(default=3, ge=2)
    views: int = Field(default=64, ge=1)
    share: float = Field(default=0.1, gt=0.0, le=1.0)
    steps: int = Field(default=3, ge=1)
    lr: float | None = Field(default=None, gt=0.0)
    crop: float = Field(default=0.08, gt=0.0, le=1.0)
    words: str | None = None
    momentum: float | None = Field(default=None, ge=0.0, lt=1.0)
    reset: Reset = "each"
    seed: int = 0


def rlcf(
    work: Work,
    *,
    reward: str = "pocket",
    tunes: Tunes = "prompt",
    sample: int = 3,
    views: int = 64,
    share: float = 0.1,
    steps: int = 3,
    lr: float | None = None,
    crop: float = 0.08,
    words: str | None = None,
    momentum: float | None = None,
    reset: Reset = "each",
    seed: int = 0,
) -> Rule:
    """The rule; with a prompt its numbers are the start (M, W). It looks at no picture before, and answers for any names. See the module.

    Raises:
        UsageError: settings that have no meaning together, a model that reads prompts already, a tower without layer norms.
        DiptychError: the second model cannot be loaded.
    """
    if momentum is not None and reset == "each":
        raise UsageError("method 'rlcf' with momentum", "nothing goes from picture to picture with reset 'each'", "Say reset=stream")
    if words is not None and tunes == "norms":
        raise UsageError("method 'rlcf' with words", "they begin a prompt, and layer norms are tuned", "Leave one of the two out")
    with judge(reward):
        pass
    model, numbers = frozen(work), {}
    before, after = prompt(work.shots.templates) if words is None else (words, "{}.")
    if tunes == "prompt":
        numbers["context"] = token_rows(model, before)
        Names(model, [after], len(numbers["context"]))
    else:
        norms(model)
    options = {"reward": reward, "tunes": tunes, "sample": sample, "views": views, "share": share, "steps": steps, "crop": crop}
    options |= {"seed": seed, "reset": reset, "after": after, "templates": list(work.shots.templates)}
    options |= {"lr": lr or RATES[tunes], "momentum": MOMENTUM if momentum is None else momentum}
    return Rule.of(RuleConfig(method=CARD.id, options=options, reads="pixels"), **numbers)


def rewards(score_CS: Tensor) -> Tensor:
    """CLIPScores of cosines less their mean over the sampled classes of a view (C, S)."""
    clipped_CS = 2.5 * score_CS.clamp(min=0)
    return clipped_CS - clipped_CS.mean(1, keepdim=True)


def answer(model: DualEncoder, labels: tuple[str, ...], numbers: dict[str, Tensor], **options: Any) -> Answer:
    """Logits of pictures, each by what was tuned for it; see the module."""
    with judge(options["reward"]) as found:
        judging = found.to(model.device)
    size, judge_KD = judging.config.preprocess.size, words(judging, labels, options["templates"])
    tuned, see = student(model, labels, numbers, options)
    sample, count = min(options["sample"], len(labels)), max(1, int(options["share"] * options["views"]))

    def judged(seen_CCHW: Tensor) -> Tensor:
        large = F.interpolate(seen_CCHW.float() / 255, size=size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
        return judging.image_features(large).to(judge_KD) @ judge_KD.T

    def one(picture_CHW: Tensor) -> Tensor:
        tuned.begin()
        seen_VCHW = views_of(picture_CHW, options["views"], options["crop"], options["seed"])
        logits_of = see(seen_VCHW)
        every_V = torch.arange(len(seen_VCHW), device=picture_CHW.device)
        with torch.no_grad():
            chosen_C = entropy(logits_of(every_V)).argsort(stable=True)[:count]
            score_CK = judged(seen_VCHW[chosen_C])
        for _ in range(options["steps"]):
            logits_CK = logits_of(chosen_C)
            at_CS = logits_CK.topk(sample, dim=1).indices
            reward_CS = rewards(score_CK.gather(1, at_CS)).to(logits_CK)
            tuned.step(-(reward_CS * logits_CK.log_softmax(1).gather(1, at_CS)).mean())
        with torch.no_grad():
            found_K = logits_of(every_V[:1])[0]
        if options["reset"] != "each":
            tuned.follow(options["momentum"])
        return found_K

    def logits(pixels_BCHW: Tensor) -> Tensor:
        with evaluating(model), torch.enable_grad():
            made = [one(picture_CHW).float() for picture_CHW in pixels_BCHW]
        return torch.stack(made) if made else judge_KD.new_zeros(0, len(labels))

    return Answer(logits, forgetting(options["reset"], tuned.forget))
