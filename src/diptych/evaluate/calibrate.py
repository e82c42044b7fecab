"""``calibrate``: a temperature, and thresholds of each class, fitted on a calibration split, kept in a small file and used on new pictures.

Papers: Guo et al., On Calibration of Modern Neural Networks (arXiv:1706.04599), section 4.2; Vovk, Conditional validity of inductive
conformal predictors (Machine Learning 92, 2013). The functions are in :mod:`diptych.evaluate.metrics.calibration`.

Probabilities are softmax(scale / temperature · similarity). A model with a bias (SigLIP) adds the same number to every logit, which softmax
does not see; its sigmoids, which answer each name by itself, are not what is calibrated here.
Shapes: N pictures, K classes, D joint width.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from diptych.core.errors import DiptychError, UsageError
from diptych.data import seal
from diptych.evaluate.features import Features, default_folder
from diptych.evaluate.fitting import scale
from diptych.evaluate.material import Material, material, table
from diptych.evaluate.metrics import calibration as metric
from diptych.evaluate.protocols.zero_shot import DEFAULT_TEMPLATES, class_rows

VERSION = 1


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was fitted, with all that it holds for.

    Args:
        model: fingerprint of the model.
        classes, templates: the names and prompts.
        scale: the model's own; logits are ``scale · similarity``.
        temperature: logits are divided by it.
        thresholds: for each class the probability from which its name is kept; None where none were asked for.
        own: which classes had enough pictures for their own threshold; the others share one.
        keep: the share of pictures that keep their right name.
        data: the calibration set's name.
        n: how many pictures it had.
    """

    model: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    scale: float
    temperature: float
    thresholds: tuple[float, ...] | None
    own: tuple[bool, ...] | None
    keep: float | None
    data: str
    n: int

    def probabilities(self, similarity_NK: Tensor) -> Tensor:
        """Calibrated probabilities of cosines, float64."""
        return (similarity_NK.double() * (self.scale / self.temperature)).softmax(1)

    def kept(self, p_NK: Tensor) -> Tensor:
        """bool ``(N, K)``: which names a picture keeps. Raises :class:`UsageError` where no thresholds were fitted."""
        if self.thresholds is None:
            raise UsageError("calibration", "it was fitted without thresholds", "Fit it with thresholds=True")
        return p_NK >= torch.tensor(self.thresholds, dtype=p_NK.dtype)

    def predict(self, model: Any, images: Any) -> tuple[list[str | None], Tensor]:
        """The likeliest name of each picture (with thresholds: among those that it keeps, None where it keeps none) and all probabilities.

        Raises:
            UsageError: the model is not the one that was calibrated.
        """
        if model.fingerprint() != self.model:
            raise UsageError(f"calibration of {self.data!r}", "it was fitted for another model", "Calibrate this model")
        rows_ND = images if isinstance(images, Tensor) and images.ndim == 2 else model.encode_image(images)
        p_NK = self.probabilities(rows_ND @ class_rows(self.classes, self.templates, model.encode_text).T)
        score_NK = p_NK if self.thresholds is None else torch.where(self.kept(p_NK), p_NK, -1.0)
        best_N, at_N = score_NK.max(1)
        return [self.classes[at] if best >= 0 else None for best, at in zip(best_N.tolist(), at_N.tolist(), strict=True)], p_NK

    def save(self, path: str | Path) -> None:
        """Write a JSON file, whole or not at all."""
        path = Path(path)
        part = path.with_name(path.name + ".part")
        try:
            part.write_text(json.dumps({"version": VERSION, **asdict(self)}, ensure_ascii=False, indent=1), encoding="utf-8")
            os.replace(part, path)
        except OSError as error:
            raise DiptychError(f"calibration {path}", error.strerror or str(error), "Give a place that you may write to") from error


def load(path: str | Path) -> Calibration:
    """Read what :meth:`Calibration.save` wrote. Raises :class:`DiptychError` where it is no such file."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        if found.pop("version") != VERSION:
            raise ValueError(f"not version {VERSION}")
        lists = {name: None if found[name] is None else tuple(found[name]) for name in ("classes", "templates", "thresholds", "own")}
        return _checked(Calibration(**{**found, **lists}))
    except OSError as error:
        raise DiptychError(f"calibration {path}", error.strerror or str(error), "Give the file that save() wrote") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DiptychError(f"calibration {path}", f"it is no calibration ({error})", "Give the file that save() wrote") from error


def _checked(found: Calibration) -> Calibration:
    numbers = (found.scale, found.temperature, *(found.thresholds or ()))
    if not all(isinstance(one, (int, float)) and one >= 0 for one in numbers) or found.temperature <= 0:
        raise ValueError("its numbers are off")
    if found.thresholds is not None and len(found.thresholds) != len(found.classes):
        raise ValueError(f"{len(found.thresholds)} thresholds for {len(found.classes)} classes")
    return found


def calibrate(
    model: Any,
    data: Any,
    *,
    tested: Any = None,
    templates: Sequence[str] | None = None,
    thresholds: bool = False,
    keep: float = 0.9,
    cache: str | Path | Literal[False] | None = None,
) -> Calibration:
    """Fit a temperature, and thresholds where asked, on labelled pictures that nothing is measured on.

    Args:
        model: a dual encoder with a scale, or what ``diptych.load`` takes.
        data: the calibration split: a set, a dataset, a name or a path. Of a path with splits the validation split is taken.
        tested: where given, the test set; the calibration split may not share a picture with it.
        templates: prompts; None takes the data's, else the model's, else the default ones.
        thresholds: also fit a threshold for each class.
        keep: see :func:`diptych.evaluate.metrics.calibration.thresholds`.
        cache: as in ``evaluate``.

    Raises:
        SealedError: ``data`` is a sealed test set, or holds pictures of ``tested``.
        UsageError: it has no classes or labels, or too few pictures for the thresholds.
    """
    if isinstance(model, (str, Path)):
        from diptych.towers.formats.load import load as load_model

        model = load_model(str(model))
    split = _split(data)
    seal.check(split.source, () if tested is None else material(tested).source, f"calibration split {split.name!r}", sealed=split.sealed)
    label_N = table(split.source).label_N
    features = Features(model, None if cache is False else default_folder() if cache is None else Path(cache))
    rows_ND = features.images(split.source, split.fingerprint)
    index_N = ((label_N >= 0) & ~rows_ND.isnan().any(1)).nonzero()[:, 0]
    if not split.classes or not len(index_N):
        raise UsageError(f"calibration split {split.name!r}", "it has no classes or no labelled pictures", "Give labelled pictures")
    prompts = tuple(templates or split.templates or getattr(model, "templates", ()) or DEFAULT_TEMPLATES)
    similarity_NK = rows_ND[index_N] @ class_rows(split.classes, prompts, features.texts).T
    own_scale = scale(model)
    warmth = metric.temperature(own_scale * similarity_NK, label_N[index_N])
    bare = Calibration(
        model.fingerprint(), split.classes, prompts, own_scale, warmth, None, None, keep if thresholds else None, split.name, len(index_N)
    )
    if not thresholds:
        return bare
    threshold_K, own_K = metric.thresholds(bare.probabilities(similarity_NK), label_N[index_N], keep)
    return replace(bare, thresholds=tuple(threshold_K.tolist()), own=tuple(own_K.tolist()))


def _split(data: Any) -> Material:
    """The split to calibrate on; of a path with splits never the test split."""
    if isinstance(data, (str, Path)) and Path(data).exists():
        from diptych.data.open import open as open_data

        found = open_data(data)
        best = next((name for name in ("validation", "train") if name in found.splits), found.split)
        return material(found if best == found.split else open_data(data, split=best))
    return material(data)
