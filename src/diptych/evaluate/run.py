"""``evaluate``: one model, any data, every protocol that fits; each number with its interval and its chance level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from diptych.core import registry
from diptych.core.errors import DiptychError, UsageError, nearest
from diptych.core.rng import generator
from diptych.core.types import Record
from diptych.evaluate import record as record_file
from diptych.evaluate.features import Features, default_folder
from diptych.evaluate.material import Material, Table, material, table
from diptych.evaluate.metrics import bootstrap
from diptych.evaluate.outcome import Metric, Outcome, Question
from diptych.evaluate.protocols.zero_shot import DEFAULT_TEMPLATES
from diptych.evaluate.speed import measure

MAX_BROKEN = 0.05
MEASURED = 64
LANGUAGES = ("de", "fr", "es", "ru", "zh", "ja", "ko", "hi")
QUICK = ("pictograms/zero-shot", "pictograms/unseen", "pictograms/retrieval")
SUITES: dict[str, tuple[str, ...]] = {
    "quick": QUICK,
    "full": (
        *QUICK,
        "pictograms/unseen-known-styles",
        "pictograms/groups",
        *(f"pictograms/{kind}-{language}" for language in LANGUAGES for kind in ("zero-shot", "retrieval")),
    ),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What holds for every set of one call; see :func:`evaluate`."""

    protocols: tuple[str, ...]
    templates: tuple[str, ...]
    seed: int
    draws: int
    command: str
    out: Path | None


@dataclass(frozen=True, slots=True)
class Subject:
    """A model under evaluation: its name in the records, what encodes, and its cached rows."""

    name: str
    model: Any
    features: Features


def evaluate(
    model: Any,
    data: Any = None,
    *,
    baseline: Any = None,
    suite: str | None = None,
    protocols: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
    limit: int | None = None,
    draws: int = 1000,
    seed: int = 0,
    cache: str | Path | Literal[False] | None = None,
    out: str | Path | None = None,
    command: str = "",
    batch_size: int = 64,
    progress: bool = False,
) -> list[Record]:
    """Measure ``model`` on ``data``.

    Args:
        model: a dual encoder, or what ``diptych.load`` takes.
        data: a set, a dataset of ``diptych.open``, the name or path of one, or a list of these.
        baseline: a second model. Every metric then has two more records: ``METRIC.gain``, the paired difference on the same examples,
            and, for hits, ``METRIC.retention``, the share of the baseline's hits that are still hits.
        suite: a named list of sets instead of, or besides, ``data``.
        protocols: ids of the protocols to run; None runs those that the set is meant for, or each that fits the data.
        templates: prompt templates instead of the set's or the model's.
        limit: evaluate at most this many samples, drawn by ``seed``.
        draws: bootstrap resamples of each interval.
        seed: of the bootstrap and of ``limit``.
        cache: folder of cached features; None is the user's cache folder, False keeps nothing.
        out: a folder that gets ``records.jsonl`` (appended), ``details.json`` with pictures, and ``report.html``.
        command: what was typed, for the records.

    Returns:
        Records, for each set and protocol the main metric first.

    Raises:
        UsageError: nothing to evaluate on, an unknown name, or a protocol that does not fit the data.
        DiptychError: too many pictures are broken, or the data has neither classes nor captions.
    """
    chosen = _materials(data, suite)
    folder = None if cache is False else default_folder() if cache is None else Path(cache)
    subjects = [_subject(each, folder, batch_size, progress) for each in ([model] if baseline is None else [model, baseline])]
    plan = Plan(tuple(protocols or ()), tuple(templates or ()), seed, draws, command, None if out is None else Path(out))
    found: list[Record] = []
    for each in chosen:
        if limit is not None and limit < len(each.source):
            each = each.take(torch.randperm(len(each.source), generator=generator(seed, "limit", each.name))[:limit].sort().values)
        found += _one_set(each, subjects, plan)
    if out is not None:
        from diptych.evaluate.report import build

        record_file.append(found, Path(out) / "records.jsonl")
        build(out)
    return found


def _materials(data: Any, suite: str | None) -> list[Material]:
    named = () if suite is None else _suite(suite)
    given = [] if data is None else data if isinstance(data, list) else [data]
    chosen = [material(each) for each in (*given, *named)]
    if not chosen:
        raise UsageError("evaluate", "no data was given", "Give a path, the name of a set, or a suite")
    return chosen


def _suite(name: str) -> tuple[str, ...]:
    if name not in SUITES:
        raise UsageError(f"suite {name!r}", "no suite of that name", nearest(name, SUITES))
    return SUITES[name]


def _subject(model: Any, folder: Path | None, batch_size: int, progress: bool) -> Subject:
    if not isinstance(model, (str, Path)):
        return Subject(model.config.name, model, Features(model, folder, batch_size, progress))
    from diptych.towers.formats.load import load

    loaded = load(str(model))
    return Subject(str(model), loaded, Features(loaded, folder, batch_size, progress))


def _one_set(data: Material, subjects: Sequence[Subject], plan: Plan) -> list[Record]:
    words = table(data.source)
    rows = [subject.features.images(data.source, data.fingerprint) for subject in subjects]
    readable_N = ~torch.stack([row.isnan().any(1) for row in rows]).any(0)
    notes = _check_readable(data, words, readable_N)
    index_N = readable_N.nonzero()[:, 0]
    kept = words.take(index_N)
    outcomes = []
    for subject, image_ND in zip(subjects, rows, strict=True):
        prompts = plan.templates or data.templates or tuple(getattr(subject.model, "templates", ())) or DEFAULT_TEMPLATES
        outcomes.append(
            ask(
                Question(image_ND[index_N], kept, subject.features.texts, data.classes, prompts),
                plan.protocols or data.protocols,
                data.name,
            )
        )
    pairs = zip(outcomes[0], outcomes[1] if len(outcomes) > 1 else [None] * len(outcomes[0]), strict=True)
    found = [made for outcome, other in pairs for made in _records(outcome, other, data, subjects[0].name, plan)]
    if plan.out is not None:
        from diptych.evaluate import details

        first = subjects[0]
        speed = measure(first.model, [data.source[i] for i in index_N[:MEASURED].tolist()], words.captions)
        details.add(plan.out, data, index_N, outcomes[0], first.name, speed, [*notes, *first.features.notes])
    return found


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


def ask(question: Question, protocols: tuple[str, ...], name: str) -> list[Outcome]:
    """Run ``protocols`` where there are any, else each that applies to the data called ``name``."""
    if protocols:
        modules = [registry.find(identity, "protocol").load() for identity in protocols]
        for module in modules:
            if not module.applies(question):
                needs = " and ".join(sorted(module.CARD.needs))
                raise UsageError(
                    f"protocol {module.CARD.id!r}", f"it needs {needs}, which {name!r} has not", "Choose another set or protocol"
                )
    else:
        known = [entry.load() for entry in registry.entries() if entry.family == "protocol"]
        modules = [module for module in sorted(known, key=lambda module: module.ORDER) if module.applies(question)]
    if not modules:
        raise DiptychError(f"set {name!r}", "it has neither classes nor captions", "Name the column that holds them; see `diptych inspect`")
    return [module.run(question) for module in modules]


def _records(outcome: Outcome, other: Outcome | None, data: Material, model: str, plan: Plan) -> Iterator[Record]:
    """The records of one protocol; beside a baseline's outcome also gains and retentions."""
    theirs = {} if other is None else {metric.name: metric for metric in other.metrics}
    for metric in outcome.metrics:

        def record(suffix: str, estimate: bootstrap.Estimate, chance: float, metric: Metric = metric) -> Record:
            return Record(
                outcome.protocol, data.name, metric.name + suffix, estimate.value, estimate.interval, estimate.n, chance,
                plan.seed, model, plan.command, data.version,
            )  # fmt: skip

        stream = generator(plan.seed, "bootstrap", data.name, outcome.protocol, metric.name)
        yield record("", bootstrap.mean(metric.value_N, stream, unit_N=metric.unit_N, draws=plan.draws, share=True), metric.chance)
        if "[" in metric.name or metric.name not in theirs:
            continue
        base_N = theirs[metric.name].value_N
        yield record(".gain", bootstrap.difference(metric.value_N, base_N, stream, unit_N=metric.unit_N, draws=plan.draws), 0.0)
        if metric.hits and bool(base_N.any()):
            yield record(
                ".retention", bootstrap.kept(metric.value_N, base_N, stream, unit_N=metric.unit_N, draws=plan.draws), metric.chance
            )
