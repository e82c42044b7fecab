"""Corruptions: naming under noise, blur, weather and digital damage.

Paper: Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations (arXiv:1903.12261).

Accuracy under 15 corruptions at 5 severities. The paper divides a model's errors by AlexNet's (mCE); no such baseline exists for other
pictures, so accuracy, its loss and the share kept are reported, and :func:`mean_corruption_error` takes any other model as baseline.

    for corruption in 15:
        for severity in 1 … 5:
            accuracy[corruption, severity] = top-1 of corrupt(pictures, corruption, severity)
    mCE = mean over corruptions of  Σ_severity error / Σ_severity error of the baseline
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import Tensor

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.core.types import Record
from diptych.evaluate import shift
from diptych.evaluate.corrupt.common import COMMON, corrupt
from diptych.evaluate.corrupt.settings import SEVERITIES
from diptych.evaluate.details import Thumbs
from diptych.evaluate.outcome import Outcome, Question
from diptych.evaluate.view import Change

CARD = Card(
    id="corruptions",
    name="Common corruptions",
    family="protocol",
    paper="Benchmarking Neural Network Robustness to Common Corruptions and Perturbations (arXiv:1903.12261)",
    where="sections 4.1 and 4.2",
    code="https://github.com/hendrycks/robustness",
    needs=frozenset({"labels", "a model with pixels"}),
)
ORDER = 30
ASPECT = "Robustness"
SUITES = {"full": ("pictograms/zero-shot",)}
ABOUT = shift.about("corruption")
VERSION = 1  # of the pixels; another one is computed anew
COLUMNS = ("clean", *map(str, SEVERITIES))


def applies(question: Question) -> bool:
    """There are classes and labels, and a model that says how it reads pixels."""
    return shift.applies(question)


def changing(question: Question, name: str, severity: int) -> Change:
    """One corruption with random numbers of its own, the same for every model."""
    return partial(corrupt, name=name, severity=severity, generator=question.view.generator("corruption", name, str(severity)))


def run(question: Question) -> Outcome:
    """Top-1 over all 75, what is lost, what is kept, and top-1 of each corruption (mean over severities)."""
    settings = [
        shift.Setting(name, severity, f"corruption|{VERSION}|{name}|{severity}", changing(question, name, severity))
        for name in COMMON
        for severity in SEVERITIES
    ]
    return shift.sweep(question, CARD.id, "corruption", settings)


def mean_corruption_error(records: Iterable[Record], baseline: Iterable[Record]) -> float:
    """mCE of a model against another: 1.0 where it errs as often, below 1 where less; from the records of both on one set.

    Raises:
        UsageError: a corruption is missing, the sets differ, or the baseline makes no error on one.
    """
    mine, theirs = (
        {record.metric: record for record in some if record.protocol == CARD.id and record.metric.startswith("corruption_top1[")}
        for some in (records, baseline)
    )
    sets = {record.set for some in (mine, theirs) for record in some.values()}
    if len(sets) != 1 or set(mine) != set(theirs):
        raise UsageError("mean corruption error", f"records of the sets {sorted(sets)} do not match", "Evaluate both models on one set")
    errors = [(1 - mine[name].value, 1 - theirs[name].value) for name in mine]
    if any(error == 0 for _, error in errors):
        raise UsageError("mean corruption error", "the baseline makes no error under one corruption", "Take a weaker baseline")
    return sum(error / other for error, other in errors) / len(errors)


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """Top-1 of each corruption at each severity."""
    clean, accuracy_S = outcome.show["clean"], outcome.show["accuracy_S"]
    table: Tensor = accuracy_S.view(len(COMMON), len(SEVERITIES))
    rows = [name.replace("_", " ") for name in COMMON]
    values = [[clean, *row] for row in table.tolist()]
    told = f"Top-1 on {len(outcome.index_N)} pictures; columns are severities."
    figure = {"kind": "heat", "title": "Common corruptions", "about": told, "share": True}
    return {"figures": [figure | {"rows": rows, "columns": list(COLUMNS), "values": values}]}
