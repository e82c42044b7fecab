"""What a method that works on rows is given: the few labelled pictures and the words of the classes, encoded.

Shapes: S labelled pictures, U pictures without labels, K classes, D joint width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from diptych.core.errors import UsageError
from diptych.towers.head import Head, HeadConfig


@dataclass(frozen=True, slots=True)
class Shots:
    """Labelled rows and class rows of one model.

    Args:
        image_SD: unit rows, float32.
        label_S: int64 in 0 … K − 1.
        text_KD: unit rows of the class names, as zero-shot classification has them.
        classes: K names.
        scale: what similarities are multiplied with to be logits.
        draw: random numbers of this run.
        free_UD: unit rows of pictures whose labels are not known; (0, D) where none were given.
        captions: captions of each labelled picture; () where the data has none.
        templates: the prompts with ``{}`` that ``text_KD`` was made with.
        encode: further texts to unit rows (N, D) float32; None where no text tower is at hand.
    """

    image_SD: Tensor
    label_S: Tensor
    text_KD: Tensor
    classes: tuple[str, ...]
    scale: float
    draw: Generator
    free_UD: Tensor | None = None
    captions: tuple[tuple[str, ...], ...] = ()
    templates: tuple[str, ...] = ("{}",)
    encode: Callable[[Sequence[str]], Tensor] | None = None

    def __post_init__(self) -> None:
        count = len(self.classes)
        if count < 2:
            raise UsageError("adapt", f"{count} class{'' if count == 1 else 'es'}", "Give data of at least two classes")
        if len(set(self.classes)) < count:
            twice = next(name for name in self.classes if self.classes.count(name) > 1)
            raise UsageError(f"class {twice!r}", "two classes have this name", "Give every class a name of its own")
        if len(self.label_S) and not 0 <= int(self.label_S.min()) <= int(self.label_S.max()) < count:
            raise UsageError("labels", f"{len(self.label_S)} labels do not fit {count} classes", "Give class indices from 0, one a picture")

    @property
    def width(self) -> int:
        """D."""
        return self.image_SD.shape[1]

    def count_K(self) -> Tensor:
        """Labelled pictures of each class (int64)."""
        return torch.bincount(self.label_S, minlength=len(self.classes))

    def take(self, index: Tensor) -> Shots:
        """Only the labelled pictures at ``index``."""
        captions = tuple(self.captions[i] for i in index.tolist()) if self.captions else ()
        return replace(self, image_SD=self.image_SD[index], label_S=self.label_S[index], captions=captions)

    @property
    def pool_UD(self) -> Tensor:
        """Rows of pictures without labels, (U, D), perhaps none."""
        return self.image_SD.new_zeros(0, self.width) if self.free_UD is None else self.free_UD

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit rows (N, D) of ``texts``. Raises :class:`UsageError` where no text tower is at hand."""
        if self.encode is None:
            raise UsageError("adapt", "this method writes texts of its own, and no text tower is at hand", "Give shots with encode")
        return self.encode(list(texts))

    def onehot_SK(self) -> Tensor:
        """Float32 one-hot labels."""
        return self.text_KD.new_zeros(len(self.label_S), len(self.classes)).scatter_(1, self.label_S[:, None], 1.0)

    def zero_shot(self) -> Head:
        """The classifier that uses the words alone."""
        return self.linear(self.scale * self.text_KD, made_by="zero-shot")

    def linear(self, weight_KD: Tensor, bias_K: Tensor | None = None, made_by: str = "") -> Head:
        """A linear head for these classes."""
        config = HeadConfig(classes=self.classes, width=self.width, made_by=made_by)
        return Head.of(config, weight=weight_KD, bias=torch.zeros(len(self.classes)) if bias_K is None else bias_K)


def class_means(shots: Shots) -> Tensor:
    """Mean row of each class, (K, D) float64; a class without pictures has its text row, which is all that is known of it."""
    count_K = shots.count_K()
    sum_KD = torch.zeros(len(shots.classes), shots.width, dtype=torch.float64).index_add_(0, shots.label_S, shots.image_SD.double())
    return torch.where(count_K[:, None] > 0, sum_KD / count_K.clamp(min=1)[:, None], shots.text_KD.double())
