"""``compare``: several models on the same data: one table, paired differences that hold together, ranks, and what a model costs.

Each model is evaluated into its own folder under ``models/``, with its own report, and goes on there where it stopped. Main numbers are
then paired resample by resample. Shapes: S resamples, M models, R rows of the table.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from diptych.core.errors import DiptychError, UsageError
from diptych.evaluate import details, resamples
from diptych.evaluate.likeness import Likeness, between
from diptych.evaluate.material import hash_of
from diptych.evaluate.metrics import standing
from diptych.evaluate.resamples import Kept
from diptych.evaluate.run import EvaluationFailed, evaluate, limited, subject, tasks_of


@dataclass(frozen=True, slots=True)
class Cell:
    """One model in one row.

    Args:
        value: its number, with the interval of its own.
        difference: to the reference on the same examples; None for the reference itself.
        together: the interval of the difference that holds at once with those of all other differences of the comparison.
        rank: 1 = best of the row, with the interval of the rank.
    """

    model: str
    value: float
    interval: tuple[float, float]
    difference: float | None
    together: tuple[float, float] | None
    rank: float
    rank_interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Row:
    """The main number of one protocol on one set, by model in the order given."""

    set: str
    protocol: str
    metric: str
    title: str
    better: str
    share: bool
    chance: float | None
    n: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """One model over all rows.

    Args:
        average: mean of the rows that are shares and where higher is better, each counting the same; None where there is none.
        rank: by that average, with its interval.
        mean_rank: mean of its ranks over all rows.
        milliseconds: of one picture on this machine, decoding included; ``parameters`` of both towers. None where unknown.
        report: its own page.
    """

    model: str
    average: float | None
    interval: tuple[float, float] | None
    rank: float | None
    rank_interval: tuple[float, float] | None
    mean_rank: float
    milliseconds: float | None
    parameters: int | None
    report: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What ``compare`` found: ``left_out`` says which numbers could not be compared, and why; ``likeness`` how alike the rows are."""

    models: tuple[str, ...]
    reference: str
    rows: tuple[Row, ...]
    standings: tuple[Standing, ...]
    reach: float
    comparisons: int
    left_out: tuple[str, ...]
    command: str
    likeness: tuple[Likeness, ...] = ()


def compare(
    models: Sequence[Any],
    data: Any = None,
    *,
    out: str | Path,
    suite: str | None = None,
    protocols: Sequence[str] | None = None,
    reference: str | None = None,
    limit: int | None = None,
    draws: int = 1000,
    seed: int = 0,
    cache: str | Path | Literal[False] | None = None,
    again: bool = False,
    command: str = "",
    batch_size: int = 64,
    progress: bool = False,
    say: Callable[[str], None] | None = None,
) -> Comparison:
    """Evaluate ``models`` on the same data and compare them.

    Args:
        models: two or more models, or names or folders that ``diptych.load`` takes.
        data, suite, protocols, limit, draws, seed, cache, again, command, batch_size, progress, say: as of
            :func:`diptych.evaluate.run.evaluate`.
        out: a folder that gets ``comparison.json``, ``compare.html`` and a folder of each model.
        reference: the model that differences are taken to; the first unless said otherwise.

    Raises:
        UsageError: fewer than two models, one twice, or an unknown reference.
        DiptychError: a model cannot be loaded, or no number is common to all.
    """
    names = [str(model) if isinstance(model, (str, Path)) else model.config.name for model in models]
    chosen = reference if reference is not None else next(iter(names), "")
    _check(names, chosen)
    _check_loading(models)
    out, left_out, asked = Path(out), list[str](), list[tuple[str, str, str]]()
    folders = {name: out / "models" / _slug(name) for name in names}
    for name, model in zip(names, models, strict=True):
        try:
            records = evaluate(
                model, data, suite=suite, protocols=protocols, limit=limit, draws=draws, seed=seed, cache=cache, out=folders[name],
                again=again, command=command, batch_size=batch_size, progress=progress,
                say=None if say is None else lambda line, name=name: say(f"{name}: {line}"),
            )  # fmt: skip
        except EvaluationFailed as failed:
            records = failed.records
            left_out += [f"{name}, {where}, {protocol}: {error.what}: {error.why}" for where, protocol, error in failed.failures]
        asked += [key for record in records if (key := (record.set, record.protocol, name)) not in asked]
    table, missing = _paired(names, folders, list(dict.fromkeys(key[:2] for key in asked)))
    if not table:
        raise DiptychError("compare", "no number was measured on the same examples by all models", f"Look at the reports in {out}/models")
    sets = {row[0].set for row in table}
    tasks = [limited(each, limit, seed) for each, _ in tasks_of(data, suite, tuple(protocols or ())) if each.name in sets]
    rows = {n: partial(subject, model, cache, batch_size, progress) for n, model in zip(names, models, strict=True)}
    alike, unlike = between(rows, tasks, seed)
    costs = {name: _cost(folder) for name, folder in folders.items()}
    made = replace(build(names, chosen, table, costs, (*left_out, *missing, *unlike), command), likeness=alike)
    _write(made, out)
    return made


def build(
    names: Sequence[str],
    reference: str,
    table: Sequence[Sequence[Kept]],
    costs: dict[str, tuple[float | None, int | None]],
    left_out: Sequence[str] = (),
    command: str = "",
) -> Comparison:
    """The comparison of numbers that were measured on the same examples: ``table`` has a row a number, with one entry a model."""
    at = names.index(reference)
    others = [m for m in range(len(names)) if m != at]
    most = max(len(row[0].draws_S) for row in table)
    draw_RSM = [_repeat(torch.stack([kept.draws_S for kept in row], 1), most) for row in table]
    value_J = torch.tensor([row[m].value - row[at].value for row in table for m in others], dtype=torch.float64)
    draw_SJ = torch.cat([draw_SM[:, others] - draw_SM[:, [at]] for draw_SM in draw_RSM], 1)
    floor_J = torch.tensor([1 / row[m].n for row in table for m in others], dtype=torch.float64)
    low_J, high_J, reach = standing.together(value_J, draw_SJ, floor_J)
    bands = [[low_J.view(len(table), -1)[r].tolist(), high_J.view(len(table), -1)[r].tolist()] for r in range(len(table))]
    rows = []
    for row, draw_SM, (low, high) in zip(table, draw_RSM, bands, strict=True):
        sign = -1.0 if row[0].better == "lower" else 1.0
        rank_M = standing.ranks(sign * torch.tensor([[kept.value for kept in row]], dtype=torch.float64))[0].tolist()
        spread_M2 = standing.rank_intervals(sign * draw_SM).tolist()
        band = dict(zip(others, zip(low, high, strict=True), strict=True))
        cells = tuple(
            Cell(
                names[m], kept.value, kept.interval, None if m == at else kept.value - row[at].value, band.get(m),
                rank_M[m], (spread_M2[m][0], spread_M2[m][1]),
            )
            for m, kept in enumerate(row)
        )  # fmt: skip
        one = row[0]
        rows.append(Row(one.set, one.protocol, one.metric, one.title, one.better, one.share, one.chance, one.n, cells))
    standings = _standings(names, table, draw_RSM, rows, costs)
    return Comparison(tuple(names), reference, tuple(rows), standings, reach, len(value_J), tuple(left_out), command)


def _standings(
    names: Sequence[str],
    table: Sequence[Sequence[Kept]],
    draw_RSM: Sequence[Tensor],
    rows: Sequence[Row],
    costs: dict[str, tuple[float | None, int | None]],
) -> tuple[Standing, ...]:
    """Each model over all rows, best average first."""
    counted = [r for r, row in enumerate(table) if row[0].share and row[0].better == "higher"]
    ranked = [row for row in rows if row.better != "neither"] or list(rows)
    found = []
    average_M, bound_M2, rank_M, spread_M2 = None, None, None, None
    if counted:
        average_M = torch.tensor([[kept.value for kept in table[r]] for r in counted], dtype=torch.float64).mean(0)
        average_SM = torch.stack([draw_RSM[r] for r in counted]).mean(0)
        whole_SM = average_SM[average_SM.isfinite().all(1)]
        bound_M2 = torch.quantile(whole_SM, torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0).T.tolist()
        rank_M, spread_M2 = standing.ranks(average_M[None])[0].tolist(), standing.rank_intervals(average_SM).tolist()
        average_M = average_M.tolist()
    for m, name in enumerate(names):
        mean_rank = sum(row.cells[m].rank for row in ranked) / len(ranked)
        average = None if average_M is None else average_M[m]
        interval = None if bound_M2 is None else (bound_M2[m][0], bound_M2[m][1])
        rank = None if rank_M is None else rank_M[m]
        spread = None if spread_M2 is None else (spread_M2[m][0], spread_M2[m][1])
        found.append(Standing(name, average, interval, rank, spread, mean_rank, *costs[name], f"models/{_slug(name)}/report.html"))
    return tuple(sorted(found, key=lambda one: (-(one.average or 0.0), one.mean_rank)))


def _repeat(draw_SM: Tensor, count: int) -> Tensor:
    """``count`` resamples; where a number has fewer, they are taken again from the first."""
    return draw_SM[torch.arange(count) % len(draw_SM)]


def _paired(names: Sequence[str], folders: dict[str, Path], keys: Sequence[tuple[str, str]]) -> tuple[list[list[Kept]], list[str]]:
    """The kept numbers that all models have on the same examples; of the others, why not."""
    table, missing = [], []
    for key in keys:
        row = [resamples.read(folders[name], *key) for name in names]
        have = [kept for kept in row if kept is not None]
        where = f"{key[0]}, {key[1]}"
        if len(have) < len(row):
            without = ", ".join(name for name, kept in zip(names, row, strict=True) if kept is None)
            missing.append(f"{where}: no resamples of {without}")
        elif len({(kept.metric, kept.samples, len(kept.draws_S)) for kept in have}) > 1:
            missing.append(f"{where}: not the same examples for all models")
        else:
            table.append(have)
    return table, missing


def _check(names: Sequence[str], reference: str) -> None:
    if len(names) < 2 or len(set(names)) < len(names):
        twice = next((name for name in names if names.count(name) > 1), None)
        why = f"{len(names)} model was given" if twice is None else f"{twice!r} was given twice"
        raise UsageError("compare", why, "Give two or more different models")
    if reference not in names:
        raise UsageError(f"reference {reference!r}", "it is none of the models", f"Give one of {', '.join(names)}")


def _check_loading(models: Sequence[Any]) -> None:
    """Each name is loaded once before the first is measured, so that no hour is lost to a misspelt other."""
    from diptych.towers.formats.load import load

    for model in models:
        if isinstance(model, (str, Path)):
            try:
                load(model)
            except DiptychError as error:
                more = "; if it is data, name it behind --data (data=)" if Path(model).exists() else ""
                raise DiptychError(error.what, error.why, f"{error.mend.rstrip('.')}{more}") from error


def _cost(folder: Path) -> tuple[float | None, int | None]:
    """Milliseconds a picture and parameters, as the model's evaluation measured them."""
    path = folder / "details.json"
    sections = details.read(path)["sets"] if path.exists() else []
    speed = next((section["speed"] for section in reversed(sections) if section.get("speed")), {})
    rate = speed.get("images_per_s")
    return (None if not rate else 1000 / rate), speed.get("parameters")


def _slug(name: str) -> str:
    """A folder's name that two models do not share."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('.-')[-40:] or 'model'}-{hash_of([name])[:6]}"


def _write(made: Comparison, out: Path) -> None:
    from diptych.evaluate.report.compare_page import render

    try:
        for name, text in (("comparison.json", json.dumps(asdict(made), ensure_ascii=False, indent=1)), ("compare.html", render(made))):
            temporary = out / f"{name}.part"
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, out / name)
    except OSError as error:
        raise DiptychError(
            f"comparison {out}", error.strerror or str(error), "Free some space or give a folder that you may write to"
        ) from error
