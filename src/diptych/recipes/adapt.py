"""``adapt``: labelled pictures in (or words, or pictures without labels), the same model adapted out, with what it gained and what it kept.

The labelled pictures are the training split of the data (or ``shots`` of each class of it); what is measured on is the test split. Where
the data has no test split, a part of each class is held out by the seed. Nothing is fitted, chosen or calibrated on a test picture: the
splits are compared by content, and options are chosen by cross-validation inside the labelled pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from diptych.adapt.parts.work import Tuned, Work
from diptych.core import registry
from diptych.core.types import Record
from diptych.engine.fewshot import Choice, Made, fitted
from diptych.evaluate.features import Features, default_folder
from diptych.evaluate.material import Material, material
from diptych.evaluate.run import evaluate
from diptych.recipes.cost import cost
from diptych.recipes.given import splits, work_of
from diptych.recipes.retain import Held, check_limit, hold
from diptych.towers.head import Head

KEPT = ("pictograms/unseen", "pictograms/retrieval")  # what retention is measured on: concepts never trained on, and retrieval


@dataclass(frozen=True, slots=True)
class Adapted:
    """An adapted model and what is known of it.

    Args:
        model: the parent with a head, a rule or prompts, or with other weights.
        choice: the method, its options and what cross-validation said; ``compared`` has every method that was tried.
        gain: the paired difference in top-1 to the parent's words on the same test pictures.
        records: all numbers: naming by words, naming by the adapted model with its gain, and what was kept elsewhere.
        seconds: of fitting and choosing, encoding aside.
        shots: labelled pictures that were used.
        numbers: how many numbers were trained or computed.
        held: how far the model was taken back towards its parent, where a limit was set.
        milliseconds: one picture named by the model's ``"rule"``, and by its towers and words (``"plain"``); None without a rule.
    """

    model: Any
    choice: Choice
    compared: tuple[Choice, ...]
    gain: Record
    records: tuple[Record, ...]
    seconds: float
    shots: int
    numbers: int
    held: Held | None = None
    keep: tuple[str, ...] = KEPT
    milliseconds: Mapping[str, float] | None = None

    def retention(self) -> float:
        """The smallest share that was kept of the parent's hits outside the data's classes; 1 where nothing was measured."""
        found = [record.value for record in self.records if record.metric.endswith(".retention") and record.set in self.keep]
        return min(found, default=1.0)

    def summary(self, where: str = "") -> dict[str, Any]:
        """The stable form that ``diptych adapt --json`` prints."""
        return {
            "method": self.choice.method,
            "gain": self.gain.value,
            "gain_interval": list(self.gain.interval),
            "retention": self.retention(),
            "trainable": self.numbers,
            "seconds": round(self.seconds, 3),
            "model": where or self.model.config.name,
            "options": dict(self.choice.options),
            "cross_validation": self.choice.accuracy,
            "shots": self.shots,
            "share": 1.0 if self.held is None else self.held.share,
            "milliseconds": None if self.milliseconds is None else dict(self.milliseconds),
            "records": [record.as_dict() for record in self.records],
        }


def adapt(
    model: Any,
    data: Any,
    *,
    method: str = "auto",
    options: Mapping[str, Any] | None = None,
    shots: int | None = None,
    test: Any = None,
    unlabelled: Any = None,
    lose_at_most: float | None = None,
    keep: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    cache: str | Path | Literal[False] | None = None,
    out: str | Path | None = None,
    command: str = "",
    progress: bool = False,
    say: Callable[[str], None] | None = None,
) -> Adapted:
    """Adapt ``model`` to the classes of ``data``.

    Args:
        model: a dual encoder, or what ``diptych.load`` takes; it stays as it is.
        data: pictures with classes, as ``diptych.evaluate`` takes them; the labels of a training split are used where the method needs any.
        method: a method's id, or ``"auto"``: the fast ones compared by cross-validation, the words alone where none is better.
        options: of the method; those of its grid that are not given are chosen by cross-validation.
        shots: labelled pictures of each class to use; all by default, 0 for none.
        test: what is measured on, instead of the data's own test split.
        unlabelled: pictures whose labels nobody looks at; ``"test"`` takes the test pictures (transductive: said in the method's page).
        lose_at_most: points of top-1 that may be lost on held-out concepts; beyond it the model goes back towards its parent.
        keep: sets that retention is measured on; :data:`KEPT` by default.
        limit: measure the gain on at most this many test pictures, drawn by ``seed``; a rule may take a second for each.
        seed: of the draw of shots and held-out pictures, and of what a method draws.
        cache: folder of cached rows; None is the user's cache folder, False keeps nothing.
        out: a folder for records and the report of the measurement.
        command: what was typed, for the records.
        say: is told what was chosen and why.

    Raises:
        UsageError: no classes, fewer than two, duplicate names, not what the method needs, an unknown method or option.
        SealedError: the labelled pictures are a sealed set or share a picture with the test pictures.
    """
    say = say or (lambda line: None)
    keep = KEPT if keep is None else tuple(keep)
    check_limit(lose_at_most)
    if isinstance(model, (str, Path)):
        from diptych.towers.formats.load import load

        model = load(str(model))
    folder = None if cache is False else default_folder() if cache is None else Path(cache)
    features = Features(model, folder, progress=progress)
    labels = shots != 0 and (method == "auto" or bool(registry.find(method, "adapt").card.needs & {"labels", "captions"}))
    labelled, tested = splits(data, test, seed, labels)
    work = work_of(features, labelled, tested, shots, seed, _free(unlabelled, tested))
    made, compared, seconds = fitted(method, work, options or {})
    for choice in compared:
        say(_told(choice))
    held = None
    if lose_at_most is not None and isinstance(made, Tuned):
        made, held = hold(model, made, lose_at_most, folder)
        say(held.told())
    elif lose_at_most is not None:
        say("kept within the limit: the towers are the parent's own, so nothing is lost for other words")
    changed = named(work, made, compared[0].method)
    common: dict[str, Any] = {"baseline": model, "seed": seed, "cache": cache, "out": out, "command": command, "progress": progress}
    answers = changed.head is not None or changed.rule is not None
    asked = ["classify", "zero_shot"] if answers else ["zero_shot"]
    records = evaluate(changed, tested, protocols=asked, limit=limit, **common)
    for name in keep:
        records += evaluate(changed, name, **common)
    wanted = ("classify" if answers else "zero_shot", "top1.gain")
    gain = next(record for record in records if (record.protocol, record.metric) == wanted and record.set == tested.name)
    numbers = made.numbers if isinstance(made, Tuned) else made.numbers()
    return Adapted(
        changed, compared[0], tuple(compared), gain, tuple(records), seconds, len(work.shots.label_S), numbers, held, tuple(keep),
        cost(changed, tested),
    )  # fmt: skip


def named(work: Work, made: Made, method: str) -> Any:
    """The parent with what was made of it, under a name that says so."""
    parent = work.model
    changed = made.model if isinstance(made, Tuned) else parent.with_head(made) if isinstance(made, Head) else parent.with_rule(made)
    name = f"{parent.config.name}+{method}"
    changed.config = changed.config.model_copy(update={"name": name, "parent": parent.config.name})
    return changed


def _free(unlabelled: Any, tested: Material) -> Material | None:
    """The pictures without labels."""
    if unlabelled is None:
        return None
    if isinstance(unlabelled, str) and unlabelled == "test":
        return tested
    found = material(unlabelled)
    if "train" in found.companions:
        found = material(found.companions["train"])
    return found


def _told(choice: Choice) -> str:
    """One method's line: its options and what cross-validation said of them."""
    settings = ", ".join(f"{name}={value}" for name, value in choice.options.items())
    if choice.accuracy is None:
        return f"{choice.method}: {choice.unasked}; options {settings or 'none'}"
    right, words = 100 * choice.accuracy, 100 * (choice.zero_shot or 0)
    return f"{choice.method}: {right:.1f}% of the held-out labelled pictures, words alone {words:.1f}% ({settings or 'no options'})"
