"""Rules: how a model answers where no head on its rows can say it: mixtures over contexts, prompts per picture, streams.

A rule belongs to an adaptation method, which the registry finds by its id; the model carries the method's name, options and numbers, so it
is saved, loaded and fingerprinted with them. The method's file defines ``answer(model, labels, numbers, **options) -> Answer``.

Shapes: B pictures, K classes, D joint width, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from diptych.core import registry
from diptych.core.errors import UsageError

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder


class RuleConfig(BaseModel):
    """What decides a rule besides its numbers.

    Args:
        method: id of the method whose file defines ``answer``.
        classes: the names it was fitted for, in the order of the logits; () where it answers for any names.
        options: the method's own, plain JSON values.
        reads: what it looks at: unit ``"rows"``, or the ``"pixels"`` of prepared pictures.
        shapes: of its numbers, by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    method: str
    classes: tuple[str, ...] = ()
    options: dict[str, Any] = {}
    reads: Literal["rows", "pixels"] = "rows"
    shapes: dict[str, tuple[int, ...]] = {}


@dataclass(frozen=True, slots=True)
class Answer:
    """A rule at work for some labels.

    Args:
        logits: unit rows (B, D), or uint8 pixels (B, 3, H, W) at the model's size where the rule reads pixels, to logits (B, K) float32.
        reset: forgets what a stream has taught it; None where nothing is remembered.
    """

    logits: Callable[[Tensor], Tensor]
    reset: Callable[[], None] | None = None


class Rule(nn.Module):
    """A method's numbers; see the module. They are buffers: no optimiser of the towers touches them.

    Args:
        config: the method and its options; numbers are NaN until they are set.
    """

    def __init__(self, config: RuleConfig) -> None:
        super().__init__()
        self.config = config
        for name, shape in config.shapes.items():
            self.register_buffer(name, torch.full(shape, torch.nan))

    @staticmethod
    def of(config: RuleConfig, **numbers: Tensor) -> Rule:
        """A rule with its numbers (floating point), by name; their shapes go into the config."""
        shapes = {name: tuple(value.shape) for name, value in numbers.items()}
        made = Rule(config.model_copy(update={"shapes": shapes}))
        for name, value in numbers.items():
            made.get_buffer(name).copy_(value.detach())
        return made

    @property
    def classes(self) -> tuple[str, ...]:
        """The fitted names; () where it answers for any."""
        return self.config.classes

    def numbers(self) -> int:
        """How many numbers it holds."""
        return sum(buffer.numel() for buffer in self.buffers())

    def knows(self, labels: Sequence[str]) -> bool:
        """Whether it can answer for exactly these labels."""
        return not self.classes or tuple(labels) == self.classes

    def answer(self, model: DualEncoder, labels: Sequence[str]) -> Answer:
        """The rule at work. Raises :class:`UsageError` where it was fitted for other labels."""
        if not self.knows(labels):
            why = f"it was fitted for {len(self.classes)} other classes"
            raise UsageError(f"{self.config.method} with {len(labels)} labels", why, "Leave the labels out, or adapt the model to these")
        numbers = dict(self.named_buffers())
        return registry.find(self.config.method, "adapt").load().answer(model, tuple(labels), numbers, **self.config.options)
