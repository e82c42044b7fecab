"""Prompts in several layers of both towers while they are learned; what methods of this kind share.

Shapes: K classes, B pictures, M prompt tokens, J layers, W width of a tower, D joint width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from diptych.adapt.parts.context import AFTER, Names, frozen, token_rows
from diptych.adapt.parts.work import Work
from diptych.core.errors import UsageError
from diptych.towers.dual import DualEncoder
from diptych.towers.prompts import Inserted, Prompts

SHARE = 0.75  # of the blocks have prompts of their own: 9 of 12 (arXiv:2210.03117, section 4.1; arXiv:2307.06948, section 4)


@dataclass(frozen=True, slots=True)
class Deep:
    """Both towers, frozen, reading prompts that are being learned.

    Args:
        model: a copy of the parent.
        names: the class names behind the text's prompts.
    """

    model: DualEncoder
    names: Names

    @staticmethod
    def of(work: Work, context: int) -> Deep:
        """Of a work's model and classes, with room for ``context`` tokens in a text. Raises as :class:`Names` and :func:`frozen` do."""
        model = frozen(work)
        return Deep(model, Names(model, [AFTER.replace("{}", name) for name in work.shots.classes], context))

    def text(self, layers: Sequence[Tensor]) -> Tensor:
        """Unit rows (K, D) of the classes behind prompts, each layer (M, W)."""
        prompts = Inserted(tuple(layers), self.names.at, same=True)
        made = [self.model.text_features(ids_GL, prompts=prompts) for _, ids_GL in self.names.pieces]
        return torch.cat(made)[self.names.back_K]

    def image(self, pixels_BCHW: Tensor, layers: Sequence[Tensor] = ()) -> Tensor:
        """Unit rows (B, D) of uint8 pictures, read with prompts where there are layers, each (M, W)."""
        pixels_BCHW = pixels_BCHW.to(self.model.device)
        if layers:
            return self.model.image_features(pixels_BCHW, prompts=Inserted(tuple(layers)))
        with torch.no_grad():
            return self.model.image_features(pixels_BCHW)


def depth_of(model: DualEncoder, depth: int | None, towers: Sequence[Literal["image", "text"]] = ("image", "text")) -> int:
    """How many layers have prompts of their own: ``depth``, or three quarters of the blocks of the shallower tower.

    Raises:
        UsageError: a tower has not as many blocks, or none that read prompts.
    """
    fewest = min(_blocks(model, tower) for tower in towers)
    if depth is not None and depth > fewest:
        which = "its text tower" if list(towers) == ["text"] else "one of its towers"
        raise UsageError(f"prompts in {depth} layers of {model.config.name!r}", f"{which} has {fewest} blocks", f"Use at most {fewest}")
    return math.ceil(SHARE * fewest) if depth is None else depth


def _blocks(model: DualEncoder, tower: Literal["image", "text"]) -> int:
    blocks = len(getattr(getattr(model, tower), "blocks", ()))
    if not blocks or (tower == "image" and not model.image.takes_prompts):
        kind = getattr(model.config, tower).kind
        mend = "Use a method that leaves pictures as they are, such as 'coop'" if tower == "image" else "Use a method that works on rows"
        raise UsageError(f"prompts in {tower} tower {kind!r}", "it has no blocks that read further tokens", mend)
    return blocks


def begun(model: DualEncoder, words: str | None, count: int, draw: Generator, templates: Sequence[str] = ()) -> Tensor:
    """First prompts (``count``, W) of the text's input: first tokens of the words, random ones (deviation 0.02) before them if short.

    Args:
        words: "" for random tokens alone; None takes those before the class in the first of the ``templates`` that has any.
    """
    made_MW = 0.02 * torch.randn(count, model.text.width, generator=draw)
    before = (one.split("{")[0] for one in templates)
    told = next((one for one in before if one.strip()), "") if words is None else words
    if told:
        told_TW = token_rows(model, told)[:count]
        made_MW[count - len(told_TW) :] = told_TW.to(made_MW)
    return made_MW.to(model.device)


def random_layers(count: int, tokens: int, width: int, draw: Generator, deviation: float = 0.02) -> list[Tensor]:
    """``count`` layers of random prompts (M, W)."""
    return [deviation * torch.randn(tokens, width, generator=draw) for _ in range(count)]


def reading(parent: DualEncoder, text: Sequence[Tensor], image: Sequence[Tensor], made_by: str) -> DualEncoder:
    """The parent with these prompts, class names as ``{}.`` behind those of the text. A head or rule of the parent is left behind."""
    prompts = Prompts.of([x.detach().cpu() for x in text], [x.detach().cpu() for x in image], made_by=made_by).to(parent.device)
    return parent.with_head(None).with_rule(None).with_prompts(prompts, (AFTER,) if text else None)
