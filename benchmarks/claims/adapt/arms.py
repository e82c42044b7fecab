"""How a claim about adaptation is measured: two arms on the same draws of shots and the same test pictures, five draws or more.

    python benchmarks/claims/adapt/gda_clip.py            # prints, writes docs/claims.jsonl and the pages
    python benchmarks/claims/adapt/gda_clip.py --smoke    # one draw, nothing written: does it run?

A claim file names its comparisons (:class:`Comparison`) and calls :func:`main`. An arm is a function of a case (one draw) that gives
values by the name of the metric; :func:`arm` makes one of a method's id. What an arm gave is cached by the case, the arm's name and the
source of the claim and of what adaptation shares, so that a run that was stopped goes on.

Interval: 95 %, draws of the shots and, within each, units of the test (concepts, photographs) with replacement, the same units in both
arms. Cost: processor seconds of choosing, fitting and answering, method over baseline; none against words alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import DRAWS, ROOT, Values, cache_folder, difference, file_of, page, say, show, verdict, write
from worlds import Case, World

from diptych.adapt.parts.work import Tuned
from diptych.core import registry
from diptych.core.catalogue import card_text
from diptych.engine.fewshot import Made, fitted, make
from diptych.engine.options import check_options
from diptych.evaluate.material import Material
from diptych.recipes.adapt import named
from diptych.towers.head import Head

SEEDS = (0, 1, 2, 3, 4)
Arm = Callable[[Case], Mapping[str, Values]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two arms.

    Args:
        id: the method's.
        world: where.
        baseline, method: the arms, each with its name.
        metrics: what is compared, the primary one first; both arms give all of them.
        shots: labelled pictures a class (0 for none, None for all).
        aim: what the effect on the primary metric must exceed.
        lower: metrics where less is better.
        free: pictures without labels.
        note: what a reader must know.
    """

    id: str
    world: World
    baseline: tuple[str, Arm]
    method: tuple[str, Arm]
    metrics: tuple[str, ...] = ("top-1",)
    shots: int | None = 16
    aim: float = 0.0
    lower: frozenset[str] = frozenset()
    free: Material | None = None
    note: str = ""
    seeds: Sequence[int] = SEEDS


def words(case: Case) -> dict[str, Values]:
    """The arm that uses the class names alone."""
    return {"top-1": hits(case, case.work.shots.zero_shot())}


def arm(identity: str, **options: Any) -> Arm:
    """Top-1 of a method on the case; options that are not given are chosen inside the shots."""

    def run(case: Case) -> dict[str, Values]:
        entry = registry.find(identity, "adapt")
        if set(entry.load().GRID) <= set(options):  # nothing to choose
            return {"top-1": hits(case, make(entry, case.work, check_options("adapt", identity, options)))}
        return {"top-1": hits(case, fitted(identity, case.work, options)[0])}

    return run


def logits(case: Case, made: Made, batch: int = 64) -> Tensor:
    """Logits (N, K) of the test pictures by what a method made."""
    shots = case.work.shots
    if isinstance(made, Head):
        return made(case.image_ND)
    model = named(case.work, made, "claim")
    index_N = torch.arange(len(case.label_N))
    if model.rule is not None:
        answer = model.rule.answer(model, shots.classes)
        given = (lambda part: case.image_ND[part]) if model.rule.config.reads == "rows" else case.pixels
        return torch.cat([answer.logits(given(part)) for part in index_N.split(batch)])
    assert isinstance(made, Tuned)
    image_ND = rows(case, model)
    if model.head is not None:
        return model.head(image_ND)
    templates = None if model.prompts is not None else shots.templates
    return model.classifier(shots.classes, templates).probabilities(image_ND).log()


def rows(case: Case, model: Any) -> Tensor:
    """Test rows of a model; the parent's where its image side is unchanged."""
    same = model.image is case.work.model.image and (model.prompts is None or not model.prompts.config.image)
    if same:
        return case.image_ND
    return torch.cat([model.encode_image(case.pixels(part)) for part in torch.arange(len(case.label_N)).split(256)])


def hits(case: Case, made: Made) -> Values:
    """1.0 where a test picture is named rightly."""
    return Values((logits(case, made).argmax(1) == case.label_N).double(), case.unit_N)


def kept(model: Any) -> Values:
    """1.0 where a drawing of a concept that nothing was trained on is named rightly among those concepts (``pictograms/unseen``)."""
    from diptych.evaluate.features import Features
    from diptych.evaluate.material import material, table
    from diptych.evaluate.protocols.zero_shot import class_rows

    data = material("pictograms/unseen")
    features = Features(model, None)
    templates = model.templates if model.prompts is not None else data.templates
    text_KD = class_rows(data.classes, templates, features.texts)
    known = table(data.source)
    return Values(((features.images(data.source, data.fingerprint) @ text_KD.T).argmax(1) == known.label_N).double(), known.group_N)


def code(identity: str) -> str:
    """A hash of the method's file, of what methods share, and of the claim."""
    source, here = ROOT / "src" / "diptych", Path(__file__).parent
    paths = [source / "adapt" / "attach.py", source / "engine" / "fewshot.py", *(source / "adapt" / "parts").glob("*.py")]
    paths += [file_of(registry.find(identity, "adapt").module), here / "arms.py", here / "worlds.py", Path(sys.argv[0])]
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def asked(comparison: Comparison, which: tuple[str, Arm], seed: int) -> tuple[dict[str, Values], float]:
    """Values and processor seconds of one arm at one draw, from the cache where they are there."""
    name, run = which
    free = comparison.free.fingerprint if comparison.free else ""
    told = [
        comparison.id,
        comparison.world.about,
        comparison.world.labelled.fingerprint,
        name,
        comparison.shots,
        seed,
        free,
        code(comparison.id),
    ]
    kept_at = cache_folder() / "adapt" / f"{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]}.json"
    if kept_at.exists():
        table = json.loads(kept_at.read_text())
        return {n: Values(torch.tensor(v, dtype=torch.float64), torch.tensor(u)) for n, (v, u) in table["values"].items()}, table["seconds"]
    case = comparison.world.case(comparison.shots, seed, comparison.free)
    began = time.process_time()
    values = dict(run(case))
    seconds = time.process_time() - began
    told_values = ", ".join(f"{n} {float(v.value_N.mean()):.3f}" for n, v in values.items())
    say(f"{comparison.id} {name} draw {seed}: {told_values} ({seconds:.1f} s)")
    kept_at.parent.mkdir(parents=True, exist_ok=True)
    saved = {n: (v.value_N.tolist(), v.unit_N.tolist()) for n, v in values.items()}
    kept_at.write_text(json.dumps({"values": saved, "seconds": seconds}))
    return values, seconds


def records(comparison: Comparison, smoke: bool, command: str) -> list[dict[str, Any]]:
    """One record a metric."""
    seeds = comparison.seeds[:1] if smoke else comparison.seeds
    found = [(asked(comparison, comparison.baseline, seed), asked(comparison, comparison.method, seed)) for seed in seeds]
    ratios = sorted(ours / base for (_, base), (_, ours) in found if comparison.baseline[0] != "words")
    out = []
    for index, metric in enumerate(comparison.metrics):
        effect, interval, each = difference([(base[metric], ours[metric]) for (base, _), (ours, _) in found], 200 if smoke else DRAWS)
        means = [[float(values[metric].value_N.mean()) for values, _ in side] for side in zip(*found, strict=True)]
        aim = comparison.aim if index == 0 else 0.0
        shots = "all labelled pictures" if comparison.shots is None else f"{comparison.shots} labelled pictures a class"
        out.append(
            {
                "id": comparison.id,
                "metric": metric,
                "effect": round(effect, 5),
                "interval": [round(edge, 5) for edge in interval],
                "seeds": len(seeds),
                "command": command,
                "primary": False,
                "verdict": verdict(effect, interval, aim, metric in comparison.lower),
                "aim": aim,
                "better": "lower" if metric in comparison.lower else "higher",
                "baseline": round(sum(means[0]) / len(seeds), 5),
                "method": round(sum(means[1]) / len(seeds), 5),
                "each": [round(value, 5) for value in each],
                "cost_ratio": round(ratios[len(ratios) // 2], 3) if ratios else None,
                "start": comparison.world.about,
                "budget": shots if comparison.shots != 0 else "no labelled pictures",
                "published": card_of(comparison.id).get("published", ""),
                "note": comparison.note,
                "names": [comparison.baseline[0], comparison.method[0]],
            }
        )
    return out


def card_of(identity: str) -> Mapping[str, str]:
    """The adaptation method's card."""
    return card_text(registry.find(identity, "adapt"))


def main(*comparisons: Comparison) -> None:
    """Measure the comparisons of one file, the first one being the claim; print and, unless ``--smoke``, write records and pages."""
    parser = argparse.ArgumentParser(description="Measure a claim about adaptation")
    parser.add_argument("--smoke", action="store_true", help="one draw; nothing is written")
    given = parser.parse_args()
    torch.set_num_threads(1)
    command = f"python benchmarks/claims/adapt/{Path(sys.argv[0]).name}"
    found = [row for comparison in comparisons for row in records(comparison, given.smoke, command)]
    found[0]["primary"] = True
    show(found)
    if not given.smoke:
        write(found)
        page(ROOT / "docs" / "claims.jsonl")
