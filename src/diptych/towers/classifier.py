"""Zero-shot classification: class names become rows, a picture goes to the nearest (CLIP, arXiv:2103.00020, section 3.1).

Shapes: N pictures, K classes, D joint width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from diptych.core.errors import UsageError
from diptych.towers.rule import Answer, Rule

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder


class Classifier:
    """A model with one unit row a class, or with a fitted head.

    Args:
        model: the model that gave the rows.
        labels: K names.
        rows_KD: unit rows; None takes the model's rule or head, whose classes ``labels`` are.
        rule: answers in place of rows and head; None where there is none.
    """

    def __init__(self, model: DualEncoder, labels: Sequence[str], rows_KD: Tensor | None, rule: Rule | None = None) -> None:
        self.model, self.labels, self.rows_KD, self.rule = model, tuple(labels), rows_KD, rule
        self._answer: Answer | None = None

    @classmethod
    def from_labels(cls, model: DualEncoder, labels: Sequence[str], templates: Sequence[str] | None = None) -> Classifier:
        """Each class is the mean of its label's rows over the templates, made a unit row again (section 3.1.4).

        Args:
            templates: prompts with one ``{}``; None takes the model's own.

        Raises:
            UsageError: no labels, or a template without ``{}``.
        """
        if isinstance(labels, str) or not labels:
            raise UsageError("labels", f"need a list of at least one name, got {labels!r}", "Pass labels such as ['apple', 'pear']")
        prompts = tuple(model.templates if templates is None else templates)
        if wrong := next((prompt for prompt in prompts if "{}" not in prompt), None):
            raise UsageError(f"template {wrong!r}", "it has no {} for the label", "Write it like 'a photo of a {}.'")
        if not prompts:
            raise UsageError("templates", "the list is empty", "Pass at least one, such as '{}'")
        texts = [prompt.replace("{}", label) for label in labels for prompt in prompts]
        rows_KPD = model.encode_text(texts).unflatten(0, (len(labels), len(prompts)))
        return cls(model, labels, functional.normalize(rows_KPD.mean(dim=1), dim=-1))

    def probabilities(self, rows_ND: Tensor) -> Tensor:
        """Softmax over the classes of the scaled similarities, or of the logits of head or rule (N, K).

        Raises:
            UsageError: the model's rule looks at pictures, of which rows tell too little.
        """
        if self.rule is not None:
            if self.rule.config.reads == "pixels":
                why = "it looks at pictures, and rows were given"
                raise UsageError(f"method {self.rule.config.method!r}", why, "Give the pictures themselves")
            return self.answer.logits(rows_ND.to(self.model.device)).float().cpu().softmax(dim=-1)
        if self.rows_KD is None:
            assert self.model.head is not None
            with torch.no_grad():
                return self.model.head(rows_ND.to(self.model.device)).float().cpu().softmax(dim=-1)
        scale = self.model.scale.detach().float().cpu()
        return (scale * rows_ND @ self.rows_KD.T).softmax(dim=-1)

    @property
    def answer(self) -> Answer:
        """The rule at work; what a stream teaches it stays until :meth:`reset`."""
        if self.rule is None:
            raise UsageError("classifier", "the model has no rule", "Use probabilities(rows)")
        if self._answer is None:
            self._answer = self.rule.answer(self.model, self.labels)
        return self._answer

    def reset(self) -> None:
        """Forget what a stream of pictures has taught the rule."""
        if self._answer is not None and self._answer.reset is not None:
            self._answer.reset()

    def _of_pictures(self, images: Any, batch: int = 64) -> Tensor:
        """Probabilities (N, K) by a rule that looks at pictures, in their order."""
        from diptych.towers.encode import as_list, pixels

        items = images if isinstance(images, Tensor) else as_list(images)
        found = []
        for start in range(0, len(items), batch):
            part = [items[index] for index in range(start, min(start + batch, len(items)))]
            made = [item if isinstance(item, Tensor) else pixels(item, self.model.config.preprocess) for item in part]
            found.append(self.answer.logits(torch.stack(made).to(self.model.device)).float().cpu().softmax(dim=-1))
        return torch.cat(found) if found else torch.empty(0, len(self.labels))

    def predict(self, images: Any, none_below: float | None = None) -> tuple[list[str | None], Tensor]:
        """The likeliest label of each picture and all probabilities (N, K).

        Args:
            images: what :meth:`DualEncoder.encode_image` reads, or a float tensor (N, D) of rows that are already encoded.
            none_below: a picture whose best probability is lower gets None: "none of these". In 0–1.
        """
        if none_below is not None and not 0 <= none_below <= 1:
            raise UsageError(f"none_below={none_below}", "a probability lies in 0–1", "Pass for example 0.5")
        rows = isinstance(images, Tensor) and images.ndim == 2
        if self.rule is not None and self.rule.config.reads == "pixels" and not rows:
            chances_NK = self._of_pictures(images)
        else:
            chances_NK = self.probabilities(images if rows else self.model.encode_image(images))
        best_N, at_N = chances_NK.max(dim=-1)
        low_N = best_N < (0.0 if none_below is None else none_below)
        names = [None if low else self.labels[at] for low, at in zip(low_N.tolist(), at_N.tolist(), strict=True)]
        return names, chances_NK


def none_threshold(probabilities_NK: Tensor, keep: float = 0.95) -> float:
    """The ``none_below`` that still answers a share ``keep`` of pictures known to belong to one of the classes."""
    return float(torch.quantile(probabilities_NK.amax(dim=-1), 1 - keep))
