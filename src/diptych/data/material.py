"""What a batch holds beside pictures and captions: rewritten captions, further texts and numbers, further augmented views.

All of it is a pure function of (seed, step, row of the global batch), so ranks, workers and resume change nothing.

Shapes: B rows, R texts or boxes a row, L text length, C channels, H height, W width.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diptych.core.errors import UsageError
from diptych.core.rng import generator, seed_for
from diptych.core.types import Maker, Preprocess, Rewriter, Words
from diptych.data.augment import Augment, apply, draw

TEXT = "text."


@dataclass(frozen=True, slots=True)
class Material:
    """What is wanted of every row.

    Args:
        rewrite: gives the caption that takes the place of the one that was picked; None leaves it.
        makers: name → function of the words and of a row's own random numbers. A name that starts with ``text.`` gives a string or
            a tuple of strings (equally many in every row), which are tokenized; any other gives numbers.
        views: augmentations, each of which gives a further view ``view.0``, ``view.1`` … of the same picture.
    """

    rewrite: Rewriter | None = None
    makers: Mapping[str, Maker] = field(default_factory=dict)
    views: tuple[Augment, ...] = ()

    @property
    def backgrounds(self) -> bool:
        """Whether a view lays a random ground under transparent pixels."""
        return any(view.background > 0 for view in self.views)

    def check(self, preprocess: Preprocess) -> None:
        """Raise :class:`UsageError` where boxes would not follow the pixels."""
        if "boxes" in self.makers and preprocess.resize != "squash":
            raise UsageError(
                f"boxes with preprocess.resize={preprocess.resize!r}",
                "a box is known in shares of the whole picture, of which this resize shows a part",
                "Use a model whose preprocess squashes",
            )

    def captions(self, words: Sequence[Words], seed: int, step: int, first: int) -> tuple[str, ...]:
        """The captions to train on; row i of ``words`` is row ``first + i`` of the global batch."""
        if self.rewrite is None:
            return tuple(word.caption for word in words)
        return tuple(self.rewrite(word, _draws(seed, "rewrite", step, first + i)) for i, word in enumerate(words))

    def extra(
        self,
        words: Sequence[Words],
        tokenize: Callable[[list[str]], Tensor],
        seed: int,
        step: int,
        first: int,
        drawn: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Texts and numbers of this rank's rows, by the makers' names; boxes moved as the pictures were (``drawn``)."""
        made: dict[str, Tensor] = {}
        for name, maker in self.makers.items():
            values = [maker(word, _draws(seed, name, step, first + i)) for i, word in enumerate(words)]
            made[name] = _tokens(name, values, tokenize) if name.startswith(TEXT) else torch.tensor(values, dtype=torch.float32)
        if "boxes" in made and "box_B4" in drawn:
            made["boxes"] = move_boxes(made["boxes"], drawn["box_B4"])
        return made

    def further(self, image_BCHW: Tensor, fill: tuple[int, int, int], seed: int, step: int, rows: slice, batch: int) -> dict[str, Tensor]:
        """The further views, uint8 (B, 3, H, W) each; ``rows`` of the global batch of ``batch`` are this rank's."""
        found = {}
        for index, view in enumerate(self.views):
            drawn = draw(view, batch, generator(seed, "view", index, step))
            found[f"view.{index}"] = apply(image_BCHW, {name: value[rows] for name, value in drawn.items()}, fill)
        return found


def _draws(seed: int, *names: object) -> random.Random:
    return random.Random(seed_for(seed, *names))


def _tokens(name: str, values: list, tokenize: Callable[[list[str]], Tensor]) -> Tensor:
    """(B, L) of strings, (B, R, L) of tuples of R strings. Raises :class:`UsageError` where R differs between rows."""
    if all(isinstance(value, str) for value in values):
        return tokenize(values)
    counts = {len(value) for value in values}
    if len(counts) != 1:
        raise UsageError(f"material {name!r}", f"it gave {min(counts)} to {max(counts)} texts a row", 'Fill up with ""')
    return tokenize([text for value in values for text in value]).unflatten(0, (len(values), counts.pop()))


def move_boxes(boxes_BR4: Tensor, box_B4: Tensor) -> Tensor:
    """Boxes (x0, y0, x1, y1 in 0…1 of the picture) in shares of the part that is shown.

    Args:
        box_B4: centre and half sides of the part shown, in −1…1 of the picture; a negative half width flips.
    """
    centre_B12, half_B12 = box_B4[:, None, :2], box_B4[:, None, 2:]
    corners = [((boxes_BR4[..., i : i + 2] * 2 - 1 - centre_B12) / half_B12 + 1) / 2 for i in (0, 2)]
    low, high = torch.minimum(*corners), torch.maximum(*corners)
    return torch.cat([low, high], dim=-1).clamp(0.0, 1.0)
