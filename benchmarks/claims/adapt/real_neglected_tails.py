"""REAL: the usual name in place of the seldom one, then a balanced head on retrieved drawings, above all for what few captions name."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arms import Arm, Comparison, hits, main
from common import Values
from word_worlds import other_names
from worlds import Case

from diptych.engine.fewshot import fitted

ID = "real-neglected-tails"
METRICS = ("top-1 of the rare third", "top-1")


def both(case: Case, made: Any) -> Mapping[str, Values]:
    """Hits of the third of the concepts with the fewest captioned drawings, and of all."""
    every = hits(case, made)
    rare_N = case.label_N >= 2 * len(case.work.shots.classes) // 3
    return {METRICS[0]: Values(every.value_N[rare_N], every.unit_N[rare_N]), METRICS[1]: every}


def real(path: Path, linear: bool, **options: Any) -> Arm:
    """REAL-Prompt, or REAL-Linear."""
    return lambda case: both(case, fitted(ID, case.work, {"synonyms": str(path), "linear": linear, **options})[0])


if __name__ == "__main__":
    world, usual = other_names()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "synonyms.json"
        path.write_text(json.dumps(usual), encoding="utf-8")
        given = ("given names", lambda case: both(case, case.work.shots.zero_shot()))
        prompt, linear = ("REAL-Prompt", real(path, False)), ("REAL-Linear", real(path, True))
        main(
            Comparison(ID, world, given, prompt, METRICS, shots=None),
            Comparison(ID, world, prompt, linear, METRICS, shots=None),
            Comparison(ID, world, prompt, ("REAL-Linear, learning rate 1e-2", real(path, True, lr=1e-2)), METRICS, shots=None),
        )
