"""Keeping what a model knew: an adapted model goes back towards its parent until it loses no more than is allowed.

Paper: Wortsman et al., "Robust fine-tuning of zero-shot models" (WiSE-FT), arXiv:2109.01903, section 3 (weights between parent and child).
Weights are mixed as there; prompts, which the parent has none of, by mixing the unit rows with and without them. The share is chosen on
drawings that are neither trained nor tested on (``pictograms/validation``), never on what retention is reported on. Shapes: N pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from diptych.adapt.attach import between
from diptych.adapt.parts.work import Tuned
from diptych.core.errors import UsageError
from diptych.evaluate.features import Features
from diptych.evaluate.material import material, table
from diptych.evaluate.protocols.zero_shot import class_rows
from diptych.towers.dual import DualEncoder

CHOSEN_ON = "pictograms/validation"
SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)


@dataclass(frozen=True, slots=True)
class Held:
    """What :func:`hold` found.

    Args:
        share: how far the model goes from its parent (0) to what was trained (1).
        limit: points that may be lost.
        lost: points of top-1 lost at each share that was asked, from 1 downwards.
    """

    share: float
    limit: float
    lost: tuple[tuple[float, float], ...]

    def told(self) -> str:
        """One line for people."""
        first, last = self.lost[0][1], self.lost[-1][1]
        if self.share == 1:
            return f"kept within {self.limit:g} points: {first:+.1f} points lost on {CHOSEN_ON}, nothing was taken back"
        return (
            f"taken back to {self.share:g} of the way from the parent: {last:+.1f} points lost on {CHOSEN_ON} instead of {first:+.1f} "
            f"(at most {self.limit:g})"
        )


def check_limit(limit: float | None) -> None:
    """Nothing, or :class:`UsageError` for a limit below 0."""
    if limit is not None and limit < 0:
        raise UsageError(f"lose at most {limit:g}", "it is points of accuracy", "Give 0 or more, such as 1.0")


def hold(parent: DualEncoder, tuned: Tuned, limit: float, folder: Path | None) -> tuple[Tuned, Held]:
    """The tuned model, taken back as far as it must be.

    Args:
        limit: points of top-1 that may be lost, 0 or more.

    Raises:
        UsageError: a negative limit.
    """
    check_limit(limit)
    before = hits(parent, folder)
    asked: list[tuple[float, float]] = []
    model = tuned.model
    for share in SHARES:
        model = tuned.model if share == 1 else towards(parent, tuned.model, share)
        lost = 0.0 if share == 0 else 100 * float((before - hits(model, folder)).mean())
        asked.append((share, lost))
        if lost <= limit:
            break
    return replace(tuned, model=model), Held(asked[-1][0], limit, tuple(asked))


def towards(parent: DualEncoder, child: DualEncoder, share: float) -> DualEncoder:
    """The model ``share`` of the way from parent to child, in weights and in prompts, without a head, which fits the child's rows only."""
    made = between(parent, child, share)
    if child.prompts is not None:
        made = made.with_prompts(child.prompts.shared(share))
    return made.with_head(None)


def hits(model: DualEncoder, folder: Path | None) -> Tensor:
    """1.0 where a validation drawing is named rightly among all concepts, float64 (N,)."""
    data = material(CHOSEN_ON)
    features = Features(model, folder)
    templates = model.templates if model.prompts is not None else data.templates or model.templates
    text_KD = class_rows(data.classes, templates, features.texts)
    image_ND = features.images(data.source, data.fingerprint)
    return ((image_ND @ text_KD.T).argmax(1) == table(data.source).label_N).double()
