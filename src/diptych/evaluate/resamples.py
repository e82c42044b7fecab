"""The resamples of each protocol's main number, kept in the output folder, so that several models can be compared draw by draw.

``draws/NAME.safetensors`` holds ``draws_S`` and, as metadata, what the number is. The resamples of one set, protocol, metric and seed take
the same units in the same order for every model.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from diptych.core.errors import DiptychError
from diptych.evaluate.material import Material, hash_of
from diptych.evaluate.metrics.bootstrap import Estimate
from diptych.evaluate.outcome import Metric

FOLDER = "draws"


@dataclass(frozen=True, slots=True)
class Kept:
    """One main number of one model.

    Args:
        set, protocol, metric: as its record says.
        title: the metric's name as people write it; ``better`` and ``share`` as in :class:`~diptych.evaluate.outcome.About`.
        samples: changes when the samples or the units that are resampled do; numbers are paired only where it agrees.
        draws_S: the number on each resample (float64).
    """

    set: str
    protocol: str
    metric: str
    title: str
    better: str
    share: bool
    chance: float | None
    n: int
    value: float
    interval: tuple[float, float]
    samples: str
    draws_S: Tensor


def keep(out: Path, data: Material, module: ModuleType, metric: Metric, estimate: Estimate, seed: int) -> None:
    """Put the resamples of ``metric`` into ``out``; nothing where they were not kept.

    Raises:
        DiptychError: the folder cannot be written.
    """
    if estimate.draws_S is None:
        return
    about = module.ABOUT[metric.name.partition("[")[0]]
    unit = "" if metric.unit_N is None else hash_of(map(str, metric.unit_N.tolist()))
    samples = hash_of([data.fingerprint, str(seed), str(len(metric.value_N)), unit])
    kept = Kept(
        data.name, module.CARD.id, metric.name, f"{module.CARD.name}: {about.title}", about.better, about.share, metric.chance,
        estimate.n, estimate.value, estimate.interval, samples, estimate.draws_S,
    )  # fmt: skip
    told = {name: value for name, value in asdict(kept).items() if name != "draws_S"}
    path = _path(out, data.name, module.CARD.id)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        save_file({"draws_S": estimate.draws_S}, temporary, metadata={"kept": json.dumps(told)})
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise DiptychError(f"resamples {path}", str(error), "Free some space or give a folder that you may write to") from error


def read(out: Path, name: str, protocol: str) -> Kept | None:
    """What :func:`keep` put there; None where it put nothing. Raises :class:`DiptychError` where the file is damaged."""
    path = _path(out, name, protocol)
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {})["kept"])
            return Kept(**{**told, "interval": tuple(told["interval"])}, draws_S=file.get_tensor("draws_S"))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise DiptychError(f"resamples {path}", f"they cannot be read ({error})", "Remove the file, and evaluate with --again") from error


def _path(out: Path, name: str, protocol: str) -> Path:
    return out / FOLDER / f"{protocol}-{hash_of([name, protocol])}.safetensors"
