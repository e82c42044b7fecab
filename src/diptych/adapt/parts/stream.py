"""What methods that adapt at test time share: how long they remember, which words they start from, and the entropy of an answer.

How long what was learned from a picture is kept (``reset``):

- ``"each"``: until the picture is answered. Every picture is met by the same rule, in whatever order they come.
- ``"stream"``: for the pictures that follow, until :attr:`Answer.reset <diptych.towers.rule.Answer>` is called.
- ``"never"``: for all pictures that follow, also after a reset.

A rule that is put to work anew (another evaluation, a model that is loaded) begins from nothing in all three.

Shapes: N answers, K classes, D joint width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from diptych.core.errors import UsageError
from diptych.towers.classifier import Classifier

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder

Reset = Literal["each", "stream", "never"]


def check_remembers(method: str, reset: str) -> None:
    """A :class:`UsageError` where a method that lives by what it remembers is told to forget each picture."""
    if reset == "each":
        why = "it answers by what it remembers of earlier pictures, and would remember none"
        raise UsageError(f"method {method!r} with reset 'each'", why, "Say 'stream' or 'never'")


def forgetting(reset: str, forget: Callable[[], None]) -> Callable[[], None] | None:
    """What :class:`~diptych.towers.rule.Answer` is given as its ``reset``: nothing where nothing outlives a picture, or everything does."""
    return forget if reset == "stream" else None


def plain(templates: Sequence[str]) -> tuple[str, ...]:
    """Templates with ``{}`` where the label belongs."""
    return tuple(template.replace("{c}", "{}") for template in templates)


def words(model: DualEncoder, labels: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Unit rows (K, D) of the labels in the templates, as zero-shot classification has them, on the model's device."""
    rows_KD = Classifier.from_labels(model, labels, plain(templates)).rows_KD
    assert rows_KD is not None
    return rows_KD.to(model.device)


def entropy(logits_NK: Tensor) -> Tensor:
    """Entropy (N,) in nats of each softmax."""
    log_NK = logits_NK.log_softmax(-1)
    return -(log_NK.exp() * log_NK).sum(-1)
