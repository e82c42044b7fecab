"""How a published claim is measured: baseline and method trained on an equal budget, several seeds, an interval, one record a number.

A claim file names its arms (frozen runs that differ in the method only) and a measure, and calls :func:`main`:

    python benchmarks/claims/cloob.py              # trains what is not trained yet, prints, writes docs/claims.jsonl and docs/claims.md
    python benchmarks/claims/cloob.py --smoke      # a few steps of one seed, nothing written: does it run?

Runs are cached under ``$DIPTYCH_CLAIMS`` (else the user's cache folder) by everything that decides them: the run's settings, the files of
the methods it names, and the weights it starts from. An interrupted run goes on from its last checkpoint.

Interval: 95 %, by drawing seeds with replacement and, within each, the units of the measure (concepts, scenes) with replacement, the same
units for both arms. With three seeds the part that comes from seeds is coarse; the values of each seed are in the record.

Cost: seconds of processor time of the whole training (loading too), method over baseline, both on one thread.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.core import registry
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.engine.options import OBJECTIVES
from diptych.engine.run import Run

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RECORDS = ROOT / "docs" / "claims.jsonl"
DRAWS = 4000


@dataclass(frozen=True, slots=True)
class Values:
    """What one model got on each item.

    Args:
        value_N: one number an item (a hit, a difference, a score); a single number where there are no items.
        unit_N: items with equal numbers are resampled together.
    """

    value_N: Tensor
    unit_N: Tensor

    @staticmethod
    def of(value: Tensor | float, unit: Tensor | None = None) -> Values:
        """Values whose items are their own units unless ``unit`` is given."""
        value_N = torch.as_tensor(value, dtype=torch.float64).reshape(-1)
        return Values(value_N, torch.arange(len(value_N)) if unit is None else unit)


Measure = Callable[[Any], Mapping[str, Values]]
Train = Callable[[Run, Path, bool], Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """One comparison.

    Args:
        id: the method's.
        baseline, method: the arms; seeds are put in by the harness.
        measure: a trained model to values by the name of the metric; both arms are measured on the same items.
        primary: the metric that the claim is about.
        start: what both arms start from, in words.
        higher: names of metrics where more is better; all by default. For the others the effect's good sign is negative.
        lower: names of metrics where less is better.
        published: the paper's figure, as its card has it unless given.
        note: what a reader must know (what was tried, what differs from the paper).
        seeds: at least three.
        aim: what the effect on the primary metric must exceed (0: be better at all). For "holds within x" give −x.
        train: how an arm is trained, in place of :func:`train_run`.
        dataset: gives the data set of a run by its arm's name, in place of ``run.data.path``.
    """

    id: str
    baseline: Run
    method: Run
    measure: Measure
    primary: str
    start: str
    lower: frozenset[str] = frozenset()
    published: str = ""
    note: str = ""
    seeds: Sequence[int] = (0, 1, 2)
    aim: float = 0.0
    train: Train | None = None
    dataset: Callable[[str], Any] | None = None
    names: tuple[str, str] = ("baseline", "method")


def cache_folder() -> Path:
    """Where trained arms are kept."""
    if chosen := os.environ.get("DIPTYCH_CLAIMS"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diptych" / "claims"


def file_of(module: str) -> Path:
    """The file of a dotted module of the package."""
    return ROOT / "src" / (module.replace(".", "/") + ".py")


def parts_of(path: Path) -> list[Path]:
    """Files of the folders ``parts`` that a method's file imports, directly or through one another."""
    found: list[Path] = []
    waiting = [path]
    while waiting:
        for name in re.findall(r"^from (diptych(?:\.\w+)*\.parts(?:\.\w+)?) import (\w+)", waiting.pop().read_text(encoding="utf-8"), re.M):
            module = name[0] if not name[0].endswith(".parts") else ".".join(name)
            if file_of(module) not in found:
                found.append(file_of(module))
                waiting.append(file_of(module))
    return found


def key_of(run: Run, *more: str) -> str:
    """12 hexadecimal digits of all that decides a run: settings, the files of its methods, ``more``."""
    files = [registry.find(run.objective.name, *OBJECTIVES).module]
    files += [registry.find(run.tokens.name, "tokens").module] if run.tokens else []
    files += [registry.find(run.data.rewrite.name, "captions").module] if run.data.rewrite else []
    digest = hashlib.sha256(run.model_copy(update={"name": "claim"}).to_yaml().encode())
    for path in sorted({path for module in files for path in (file_of(module), *parts_of(file_of(module)))}):
        digest.update(path.read_bytes())
    for start in (run.init.from_, run.init.image_from, run.init.text_from):
        weights = Path(start or "-") / "model.safetensors"
        digest.update(hashlib.sha256(weights.read_bytes()).digest() if weights.exists() else str(start).encode())
    digest.update("\0".join(more).encode())
    return digest.hexdigest()[:12]


def train_run(run: Run, folder: Path, progress: bool, dataset: Any = None) -> Any:
    """The run's trained model: loaded where ``folder`` holds it, else trained. Writes ``cost.json`` with the processor seconds."""
    from diptych.engine.loop import train
    from diptych.towers.formats.load import load

    if (folder / "cost.json").exists():
        return load(str(folder / "model"))
    resumed = (folder / "checkpoints").exists() and any((folder / "checkpoints").iterdir())
    began = time.process_time()
    model = train(run, folder, progress=progress, dataset=dataset).model
    seconds = None if resumed else round(time.process_time() - began, 2)
    (folder / "cost.json").write_text(json.dumps({"processor_seconds": seconds}))
    return model


def arm(claim: Claim, run: Run, name: str, seed: int, smoke: bool) -> tuple[dict[str, Values], float | None]:
    """Values and cost of one arm at one seed, from the cache where they are there."""
    run = run.model_copy(update={"seed": seed, "name": f"{claim.id}-{name}"})
    if smoke:
        run = run.with_set("budget.steps=3", f"data.batch={min(run.data.batch, 32)}", "save.every=100")
    dataset = claim.dataset(name) if claim.dataset else None
    parts = [inspect.getsource(claim.train)] if claim.train else []
    parts += [str(dataset.fingerprint())] if dataset is not None else []
    folder = cache_folder() / ("smoke" if smoke else "runs") / key_of(run, *parts)
    asked = f"{claim.id} {claim.measure.__module__}.{claim.measure.__qualname__}"  # one arm may be measured in two ways
    made = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(HERE.glob("*.py"))) + asked.encode()).hexdigest()[:8]
    kept = folder / f"measured-{made}.json"
    if kept.exists() and not smoke:
        table = json.loads(kept.read_text())
        values = {n: Values(torch.tensor(v, dtype=torch.float64), torch.tensor(u)) for n, (v, u) in table.items()}
    else:
        say(f"{claim.id} {name} seed {seed}: {folder.name}")
        train = claim.train or (lambda run, folder, progress: train_run(run, folder, progress, dataset))
        values = dict(claim.measure(train(run, folder, sys.stderr.isatty())))
        kept.write_text(json.dumps({n: (v.value_N.tolist(), v.unit_N.tolist()) for n, v in values.items()}))
    cost = folder / "cost.json"
    return values, json.loads(cost.read_text())["processor_seconds"] if cost.exists() else None


def say(text: str) -> None:
    """A line on standard error, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def difference(pairs: Sequence[tuple[Values, Values]], draws: int = DRAWS) -> tuple[float, tuple[float, float], list[float]]:
    """Mean of method − baseline over seeds, its interval (see the module), and the difference of each seed.

    Args:
        pairs: a seed's (baseline, method); equally many items in the same order.
    """
    draw = generator(0, "claims")
    unit_sums = []
    for base, ours in pairs:
        if not torch.equal(base.unit_N, ours.unit_N):
            raise UsageError("claim", "the two arms were measured on different items", "Make the measure deterministic")
        number = torch.unique(base.unit_N, return_inverse=True)[1]
        count_U = torch.zeros(int(number.max()) + 1, dtype=torch.float64).index_add_(
            0, number, torch.ones(len(number), dtype=torch.float64)
        )
        unit_sums.append((torch.zeros_like(count_U).index_add_(0, number, ours.value_N - base.value_N), count_U))
    each = [float(total_U.sum() / count_U.sum()) for total_U, count_U in unit_sums]
    found = torch.empty(draws, dtype=torch.float64)
    for i in range(draws):
        seeds = torch.randint(len(pairs), (len(pairs),), generator=draw).tolist()
        means = []
        for seed in seeds:
            total_U, count_U = unit_sums[seed]
            units = torch.randint(len(count_U), (len(count_U),), generator=draw)
            means.append(total_U[units].sum() / count_U[units].sum())
        found[i] = torch.stack(means).mean()
    low, high = torch.quantile(found, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return sum(each) / len(each), (low, high), each


def verdict(effect: float, interval: tuple[float, float], aim: float, lower: bool) -> str:
    """``holds`` where the whole interval is on the good side of ``aim``, ``fails`` where it is on the other, else ``open``."""
    low, high = (-interval[1], -interval[0]) if lower else interval
    return "holds" if low > aim else "fails" if high < aim else "open"


def rows(claim: Claim, smoke: bool = False) -> list[dict[str, Any]]:
    """One record a metric, the primary one first."""
    seeds = claim.seeds[:1] if smoke else claim.seeds
    found = [(arm(claim, claim.baseline, claim.names[0], s, smoke), arm(claim, claim.method, claim.names[1], s, smoke)) for s in seeds]
    costs = [(base[1], ours[1]) for base, ours in found]
    ratio = sorted(o / b for b, o in costs if b and o)
    card = next((e.card for e in registry.entries() if e.id == claim.id), None)
    out = []
    for name in sorted(found[0][0][0], key=lambda metric: metric != claim.primary):
        effect, interval, each = difference([(base[0][name], ours[0][name]) for base, ours in found], 200 if smoke else DRAWS)
        means = [[float(values[name].value_N.mean()) for values, _ in side] for side in zip(*found, strict=True)]
        aim = claim.aim if name == claim.primary else 0.0
        out.append(
            {
                "id": claim.id,
                "metric": name,
                "effect": round(effect, 5),
                "interval": [round(edge, 5) for edge in interval],
                "seeds": len(seeds),
                "command": f"python benchmarks/claims/{claim.id.replace('-', '_')}.py",
                "primary": name == claim.primary,
                "verdict": verdict(effect, interval, aim, name in claim.lower),
                "aim": aim,
                "better": "lower" if name in claim.lower else "higher",
                "baseline": round(sum(means[0]) / len(means[0]), 5),
                "method": round(sum(means[1]) / len(means[1]), 5),
                "each": [round(value, 5) for value in each],
                "cost_ratio": round(ratio[len(ratio) // 2], 3) if ratio else None,
                "start": claim.start,
                "budget": budget(claim.method),
                "published": claim.published or (card.published if card else ""),
                "note": claim.note,
                "names": list(claim.names),
            }
        )
    return out


def budget(run: Run) -> str:
    """The budget of an arm in words."""
    spent = {name: value for name, value in asdict_of(run.budget).items() if value is not None}
    kind, value = next(iter(spent.items()))
    return f"{value:g} {kind} of batch {run.data.batch}"


def asdict_of(part: Any) -> dict[str, Any]:
    """Fields of a frozen config or a dataclass."""
    return part.model_dump() if hasattr(part, "model_dump") else asdict(part)


def write(found: Sequence[Mapping[str, Any]], path: Path = RECORDS) -> None:
    """Put records in place of those of the same method and metric; the file stays sorted by method."""
    old = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    ids = {row["id"] for row in found}
    kept = [row for row in old if row["id"] not in ids] + list(found)
    order = {id(row): index for index, row in enumerate(kept)}
    kept.sort(key=lambda row: (row["id"], not row["primary"], order[id(row)]))
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf-8")


def show(found: Sequence[Mapping[str, Any]]) -> None:
    """The records for a reader."""
    for row in found:
        low, high = row["interval"]
        mark = "*" if row["primary"] else " "
        cost = "" if row["cost_ratio"] is None else f"  cost {row['cost_ratio']:.2f}x"
        print(
            f"{mark} {row['id']:<24} {row['metric']:<44} {row['baseline']:8.4f} → {row['method']:8.4f}  "
            f"effect {row['effect']:+.4f} [{low:+.4f}, {high:+.4f}]  {row['verdict']}{cost}"
        )
    print(f"  published: {found[0]['published'] or 'no figure'}; {found[0]['seeds']} seeds, {found[0]['budget']}, {found[0]['start']}")


def main(*claims: Claim) -> None:
    """Measure the claims of one file, print them and, unless ``--smoke``, write the records and the pages."""
    parser = argparse.ArgumentParser(description="Measure a published claim")
    parser.add_argument("--smoke", action="store_true", help="a few steps of one seed; nothing is written")
    parser.add_argument("--threads", type=int, default=1, help="threads of this process; costs are compared on equal ones")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    found = [row for claim in claims for row in rows(claim, asked.smoke)]
    primary = [index for index, row in enumerate(found) if row["primary"]]
    found = [{**row, "primary": index == primary[0]} for index, row in enumerate(found)]
    show(found)
    if not asked.smoke:
        write(found)
        page(RECORDS)


def page(records: Path) -> None:
    """Write docs/claims.md and docs/methods.md anew."""
    sys.path.insert(0, str(ROOT / "scripts"))
    import claims_page
    import methods_page

    claims_page.write(records)
    methods_page.write()
