"""One set, one or two models: rows, a question, protocols, records. A protocol that fails does not take the others with it."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from diptych.core import registry
from diptych.core.errors import DiptychError, UsageError
from diptych.core.rng import generator
from diptych.core.types import Record
from diptych.data.sets.base import EvalSet
from diptych.data.sources.base import Dataset, stat_line
from diptych.evaluate import details, resamples, suite
from diptych.evaluate.features import Features
from diptych.evaluate.journal import Journal
from diptych.evaluate.material import Material, Table, hash_of, material, table
from diptych.evaluate.metrics import bootstrap
from diptych.evaluate.outcome import Metric, Outcome, Question
from diptych.evaluate.protocols.zero_shot import DEFAULT_TEMPLATES
from diptych.evaluate.speed import measure as measure_speed
from diptych.evaluate.view import View

logger = logging.getLogger("diptych")
MAX_BROKEN = 0.05
TIMED = 64
STATISTIC_DRAWS = 200  # resamples of metrics that are no means: each is computed anew


@dataclass(frozen=True, slots=True)
class Plan:
    """What holds for every set of one call; see :func:`diptych.evaluate.run.evaluate`.

    Args:
        strict: a protocol that does not apply is an error.
    """

    templates: tuple[str, ...]
    seed: int
    draws: int
    command: str
    suite: str
    strict: bool
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model under evaluation: its name in the records, what encodes, and its cached rows."""

    name: str
    model: Any
    features: Features


def measured(
    data: Material, wanted: tuple[str, ...], subjects: Sequence[Subject], plan: Plan, journal: Journal
) -> Iterator[tuple[str, list[Record] | DiptychError]]:
    """For each protocol its id and its records, or why it failed."""
    words = table(data.source)
    rows = [subject.features.images(data.source, data.fingerprint) for subject in subjects]
    readable_N = ~torch.stack([row.isnan().any(1) for row in rows]).any(0)
    notes = _check_readable(data, words, readable_N)
    for note in notes:
        logger.warning("%s: %s", data.name, note)
    index_N = readable_N.nonzero()[:, 0]
    questions = [
        Question(
            image_ND[index_N],
            words.take(index_N),
            subject.features.texts,
            data.classes,
            _templates(plan, data, subject.model),
            View(subject.features, data, index_N, plan.seed),
        )
        for subject, image_ND in zip(subjects, rows, strict=True)
    ]
    speed: dict[str, Any] = {}
    version = version_of(data, questions[0], subjects[0].model)
    companions = hash_of(f"{role}|{_content(data.companions[role])}" for role in sorted(data.companions))
    for module in chosen(questions[0], wanted, data.name, plan.suite, strict=plan.strict):
        told = [data.fingerprint, version, module.CARD.id, sources(), companions, str(plan.seed), str(plan.draws)]
        key = journal.key([*told, *(template for question in questions for template in question.templates)])
        records = journal.find(key)
        if records is not None:
            plan.say(f"{data.name}: {module.CARD.name}, done before")
            yield module.CARD.id, records
            continue
        start = time.monotonic()
        try:
            outcomes = attempt(module, questions)
            records = list(_records(module, outcomes, data, version, subjects[0].name, plan, journal.out))
        except DiptychError as error:
            plan.say(f"{data.name}: {module.CARD.name} FAILED: {error.what}: {error.why}")
            journal.failed(data.name, module.CARD.id, error)
            yield module.CARD.id, error
            continue
        if journal.out is not None:
            first, names = subjects[0], [subject.name for subject in subjects]
            speed = speed or measure_speed(first.model, [data.source[i] for i in index_N[:TIMED].tolist()], words.captions)
            noted = [*notes, *first.features.notes]
            details.add(journal.out, data, index_N, module, outcomes, names, speed, noted)
        journal.keep(key, records)
        plan.say(f"{data.name}: {module.CARD.name}, {time.monotonic() - start:.0f} s")
        yield module.CARD.id, records


def _templates(plan: Plan, data: Material, model: Any) -> tuple[str, ...]:
    """The prompts that are asked for, else those that a model's learned prompts go with, else the set's, the model's, the default ones."""
    own = tuple(getattr(model, "templates", ()))
    learned = own if getattr(model, "prompts", None) is not None else ()
    return plan.templates or learned or data.templates or own or DEFAULT_TEMPLATES


def attempt(module: ModuleType, questions: Sequence[Question]) -> list[Outcome]:
    """The outcome of each question. Whatever a protocol did not foresee becomes a :class:`DiptychError` and costs its own numbers only.

    Where there is a baseline, a protocol's ``beside`` puts into the first what can only be said of both together.
    """
    try:
        outcomes = [module.run(question) for question in questions]
        return [module.beside(*outcomes), *outcomes[1:]] if len(outcomes) == 2 and hasattr(module, "beside") else outcomes
    except DiptychError:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or "no message"
        mend = "Run this protocol alone with --debug to see the traceback"
        raise DiptychError(f"unexpected {type(error).__name__}", reason, mend) from error


def _content(companion: Any) -> str:
    """What changes when a companion does: of a file (a list of captions, say) its size and time, of samples their fingerprint."""
    if isinstance(companion, (str, Path)) and Path(companion).is_file():
        return stat_line(Path(companion), str(companion))
    return material(companion).fingerprint if isinstance(companion, (str, Path, Material, EvalSet, Dataset)) else repr(companion)


@functools.cache
def sources() -> str:
    """A hash of the package's evaluation code: what was measured by other code is measured anew."""
    return hash_of(path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.rglob("*.py")))


def version_of(data: Material, question: Question, model: Any) -> str:
    """The set's version, and a hash of the class names, the prompts and the model's preprocessing: what else decides a number."""
    preprocess = str(getattr(model.config, "preprocess", ""))
    return f"{data.version}+{hash_of([*question.classes, '', *question.templates, '', preprocess])[:6]}"


def _check_readable(data: Material, words: Table, readable_N: Tensor) -> list[str]:
    """A note when pictures are left out; an error when they are more than :data:`MAX_BROKEN` of the set."""
    broken = [words.ids[i] for i in (~readable_N).nonzero()[:, 0].tolist()]
    if len(broken) > MAX_BROKEN * len(words):
        raise DiptychError(
            f"set {data.name!r}",
            f"{len(broken)} of {len(words)} pictures cannot be decoded, the first is {broken[0]!r}",
            f"Look at them with `diptych inspect {data.name}`",
        )
    return [f"{len(broken)} of {len(words)} pictures cannot be decoded and are left out: {', '.join(broken[:5])}"] if broken else []


def chosen(question: Question, protocols: tuple[str, ...], name: str, of_suite: str = "quick", *, strict: bool = True) -> list[ModuleType]:
    """The modules of ``protocols`` where there are any, else those of the suite that apply to the data called ``name``.

    One of ``protocols`` that does not apply is a :class:`UsageError` where ``strict``, else it is left out.
    """
    if protocols:
        modules = [registry.find(identity, "protocol").load() for identity in protocols]
        for module in modules if strict else ():
            if not module.applies(question):
                needs = " and ".join(sorted(module.CARD.needs))
                raise UsageError(
                    f"protocol {module.CARD.id!r}", f"it needs {needs}, which {name!r} has not", "Choose another set or protocol"
                )
        return [module for module in modules if module.applies(question)]
    modules = [module for module in suite.members(of_suite) if module.applies(question)]
    if not modules:
        raise DiptychError(
            f"set {name!r}",
            "it has neither captions nor two classes",
            "Give class folders, two at least, or a table with captions; see `diptych inspect`",
        )
    return modules


def ask(question: Question, protocols: tuple[str, ...], name: str) -> list[Outcome]:
    """Run ``protocols`` where there are any, else each of the quick suite that applies to the data called ``name``."""
    return [module.run(question) for module in chosen(question, protocols, name)]


def _records(
    module: ModuleType, outcomes: Sequence[Outcome], data: Material, version: str, model: str, plan: Plan, out: Path | None
) -> Iterator[Record]:
    """The records of one protocol; beside a baseline's outcome also gains and retentions. The main number's resamples go to ``out``."""
    theirs = {metric.name: metric for metric in outcomes[1].metrics} if len(outcomes) > 1 else {}
    about = module.ABOUT
    for metric in outcomes[0].metrics:

        def record(suffix: str, estimate: bootstrap.Estimate, chance: float | None, metric: Metric = metric) -> Record:
            return Record(
                module.CARD.id, data.name, metric.name + suffix, estimate.value, estimate.interval, estimate.n, chance,
                plan.seed, model, plan.command, version,
            )  # fmt: skip

        stream = generator(plan.seed, "bootstrap", data.name, module.CARD.id, metric.name)
        share = about[metric.name.partition("[")[0]].share
        found = estimate(metric, stream, plan.draws, share=share)
        if out is not None and metric is outcomes[0].metrics[0]:
            resamples.keep(out, data, module, metric, found, plan.seed)
        yield record("", found, metric.chance)
        other = theirs.get(metric.name)
        if other is None or "[" in metric.name:
            continue
        yield record(".gain", gained(metric, other, stream, plan.draws), 0.0)
        if metric.hits and metric.of is None and metric.given is None and bool(other.value_N.any()):
            kept = bootstrap.kept(metric.value_N, other.value_N, stream, unit_N=metric.unit_N, draws=plan.draws)
            yield record(".retention", kept, metric.chance)


def estimate(metric: Metric, stream: torch.Generator, draws: int, *, share: bool) -> bootstrap.Estimate:
    """A metric's number with its interval."""
    if metric.given is not None:
        return metric.given
    if metric.of is None:
        return bootstrap.mean(metric.value_N, stream, unit_N=metric.unit_N, draws=draws, share=share)
    return bootstrap.statistic(metric.value_N, metric.of, stream, unit_N=metric.unit_N, draws=min(draws, STATISTIC_DRAWS))


def gained(metric: Metric, other: Metric, stream: torch.Generator, draws: int) -> bootstrap.Estimate:
    """The paired difference to the same metric of another model, on the same examples."""
    if metric.given is not None and other.given is not None:
        return bootstrap.apart(metric.given, other.given)
    if metric.of is None:
        return bootstrap.difference(metric.value_N, other.value_N, stream, unit_N=metric.unit_N, draws=draws)
    paired = partial(bootstrap.statistic, other_N=other.value_N, unit_N=metric.unit_N, draws=min(draws, STATISTIC_DRAWS))
    return paired(metric.value_N, metric.of, stream)
