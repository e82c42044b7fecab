"""``evaluate``: one model, any data, every protocol that fits; each number with its interval and its chance level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from diptych.core.errors import DiptychError, UsageError
from diptych.core.rng import generator
from diptych.core.types import Record
from diptych.evaluate import suite as suites
from diptych.evaluate.features import Features, default_folder
from diptych.evaluate.journal import Journal
from diptych.evaluate.material import Material, material, materials
from diptych.evaluate.measure import Plan, Subject, measured
from diptych.evaluate.protocols import tails
from diptych.evaluate.protocols.zero_shot import fill


class EvaluationFailed(DiptychError):
    """Some protocols failed; the others' records are kept.

    Attributes:
        records: what was measured nevertheless (also in the output folder, where there is one).
        failures: ``(set, protocol, error)`` of each that failed.
    """

    def __init__(self, failures: Sequence[tuple[str, str, DiptychError]], records: list[Record], total: int) -> None:
        name, protocol, first = failures[0]
        self.failures, self.records = tuple(failures), records
        super().__init__(
            f"evaluate: {len(failures)} of {total} protocols failed; the first, {protocol} on {name!r}: {first.what}",
            first.why,
            f"{first.mend.rstrip('.')}; the other records are kept, and the same command goes on with what is missing",
        )


def evaluate(
    model: Any,
    data: Any = None,
    *,
    baseline: Any = None,
    suite: str | None = None,
    protocols: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
    captions: Any = None,
    limit: int | None = None,
    draws: int = 1000,
    seed: int = 0,
    cache: str | Path | Literal[False] | None = None,
    out: str | Path | None = None,
    again: bool = False,
    command: str = "",
    batch_size: int = 64,
    progress: bool = False,
    say: Callable[[str], None] | None = None,
) -> list[Record]:
    """Measure ``model`` on ``data``.

    Args:
        model: a dual encoder, or what ``diptych.load`` takes.
        data: a set, a dataset of ``diptych.open``, the name or path of one, a folder of public sets, or a list of these.
        baseline: a second model. Every metric then has two more records: ``METRIC.gain``, the paired difference on the same examples,
            and, for hits, ``METRIC.retention``, the share of the baseline's hits that are still hits.
        suite: ``"quick"`` or ``"full"``: which protocols run; without ``data`` on the embedded sets that the suite names.
        protocols: ids of the protocols to run; None runs those that the set is meant for, or each of the suite that fits the data.
        templates: prompt templates instead of the set's or the model's.
        captions: words that the model was trained on, as :func:`diptych.evaluate.protocols.tails.tails` takes them: adds the accuracy
            against how often they name a class.
        limit: evaluate at most this many samples, drawn by ``seed``.
        draws: bootstrap resamples of each interval.
        seed: of the bootstrap, of ``limit`` and of all that protocols draw.
        cache: folder of cached features; None is the user's cache folder, False keeps nothing.
        out: a folder that gets ``records.jsonl`` (appended), ``details.json`` with pictures, and ``report.html``. An evaluation that was
            stopped goes on there: what was measured with the same weights, data and settings is not measured again.
        again: measure anew what ``out`` holds already.
        command: what was typed, for the records.
        progress: show bars.
        say: is told of each protocol as it is done.

    Returns:
        Records, for each set and protocol the main metric first.

    Raises:
        UsageError: nothing to evaluate on, an unknown name, or a protocol that does not fit the data.
        EvaluationFailed: one of several protocols failed; the others were run first, and their records are kept.
        DiptychError: too many pictures are broken, or the data has neither captions nor two classes.
    """
    for template in templates or ():
        fill(template, "")
    tasks = [(limited(each, limit, seed), wanted) for each, wanted in tasks_of(data, suite, tuple(protocols or ()))]
    tasks = tasks if captions is None else _counted(tasks, captions)
    subjects = [subject(each, cache, batch_size, progress) for each in ([model] if baseline is None else [model, baseline])]
    journal = Journal(None if out is None else Path(out), subjects, again)
    plan = Plan(
        tuple(templates or ()), seed, draws, command, suite or "quick", bool(protocols) or suite is None, say or (lambda line: None)
    )
    found: list[Record] = []
    failures: list[tuple[str, str, DiptychError]] = []
    total = 0
    for each, wanted in tasks:
        try:
            for protocol, records in measured(each, wanted, subjects, plan, journal):
                total += 1
                if isinstance(records, DiptychError):
                    failures.append((each.name, protocol, records))
                else:
                    found += records
        except DiptychError as error:  # the set itself cannot be read or asked
            total += 1
            failures.append((each.name, "reading it", error))
            journal.failed(each.name, "", error)
    if out is not None and found:
        from diptych.evaluate.report import build

        build(out)
    if failures and total == 1:
        raise failures[0][2]
    if failures:
        raise EvaluationFailed(failures, found, total)
    return found


def _counted(tasks: list[tuple[Material, tuple[str, ...]]], captions: Any) -> list[tuple[Material, tuple[str, ...]]]:
    """The tasks, and for each set with classes its accuracy against how often ``captions`` name them."""
    if not any(each.classes for each, _ in tasks):
        raise UsageError("captions", "none of the sets has classes that could be counted in them", "Give data with classes")
    found = []
    for each, wanted in tasks:
        rest = tuple(protocol for protocol in wanted if protocol != tails.CARD.id)
        found += [(each, rest)] if rest or not wanted else []
        found += [(tails.counted_in(each, captions), (tails.CARD.id,))] if each.classes else []
    return found


def limited(data: Material, limit: int | None, seed: int) -> Material:
    """At most ``limit`` samples of ``data``, drawn by ``seed``."""
    if limit is None or limit >= len(data.source):
        return data
    return data.take(torch.randperm(len(data.source), generator=generator(seed, "limit", data.name))[:limit].sort().values)


def tasks_of(data: Any, suite: str | None, protocols: tuple[str, ...]) -> list[tuple[Material, tuple[str, ...]]]:
    """Each set with the protocols to run on it; () means those that fit."""
    if suite is not None:
        suites.check(suite)
    if data is None and suite is not None:
        named = suites.sets(suite)
        chosen = {name: tuple(p for p in wanted if p in protocols) if protocols else wanted for name, wanted in named.items()}
        tasks = [(material(name), wanted) for name, wanted in chosen.items() if wanted]
    else:
        given = [] if data is None else data if isinstance(data, list) else [data]
        made = [made for each in given for made in materials(each)]
        tasks = [(each, protocols or (() if suite else each.protocols)) for each in made]
    if not tasks:
        raise UsageError("evaluate", "no data was given", "Give a path, the name of a set, or a suite")
    return tasks


def subject(model: Any, cache: str | Path | Literal[False] | None, batch_size: int, progress: bool) -> Subject:
    """A model, or what ``diptych.load`` takes, with its cached rows."""
    folder = None if cache is False else default_folder() if cache is None else Path(cache)
    if not isinstance(model, (str, Path)):
        return Subject(model.config.name, model, Features(model, folder, batch_size, progress))
    from diptych.towers.formats.load import load

    loaded = load(str(model))
    return Subject(str(model), loaded, Features(loaded, folder, batch_size, progress))
