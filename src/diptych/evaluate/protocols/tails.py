"""Is a model worse at what its captions seldom name? Zero-shot accuracy against concept frequency.

Paper: Parashar et al., The Neglected Tails of Vision-Language Models (arXiv:2401.12425): frequency by names and synonyms,
accuracy against it, and prompting with the synonym that the captions name most (REAL-Prompt).

Captions are those of the set's ``"captions"`` companion, else of its train companion; :func:`tails` takes them from any file. A class is
counted once a picture, by its name or any synonym (:mod:`diptych.evaluate.metrics.frequency`). Where there are synonyms, each class is also
prompted by the name that was counted most. Shapes: N pictures, K classes, C classes with pictures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.core.errors import DiptychError
from diptych.core.types import Record
from diptych.evaluate.details import Thumbs
from diptych.evaluate.material import Material, hash_of, material
from diptych.evaluate.metrics import classification, frequency
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.protocols.zero_shot import class_rows

CARD = Card(
    id="tails",
    name="Accuracy against concept frequency",
    family="protocol",
    paper="The Neglected Tails of Vision-Language Models (arXiv:2401.12425)",
    where="concept frequency by synonyms; REAL-Prompt",
    code="https://github.com/shubhamprshr27/NeglectedTailsVLM",
    needs=frozenset({"labels", "captions of the training data (--captions)"}),
)
ORDER = 66
ASPECT = "Frequency"
SUITES = {"full": ("study/zero-shot",)}
ABOUT = {
    "frequency_spearman": About(
        "Accuracy with frequency", "rank correlation of a class's accuracy and how often it is named", "neither", share=False
    ),
    "tail_top1": About("Top-1, rarest fifth", "mean over the classes that the captions name least"),
    "head_top1": About("Top-1, most frequent fifth", "mean over the classes that the captions name most"),
    "head_over_tail": About(
        "Head over tail", "top-1 of the most frequent fifth of the classes less that of the rarest", "lower", share=False
    ),
    "top1_by_frequency": About("Top-1 by frequency", "mean over the classes that the captions name so often"),
    "frequent_name_change": About("Change by the most frequent name", "top-1 gained by prompting with it", "neither", share=False),
}
SHARE = 0.2
FEWEST = 4
RAREST = 24


def applies(question: Question) -> bool:
    """There are classes, labels, and captions of a training set."""
    labelled = bool(question.classes) and bool((question.table.label_N >= 0).any())
    return labelled and question.more is not None and (question.view.has("captions") or question.view.has("train"))


def tails(model: Any, data: Any, captions: Any, synonyms: Mapping[str, Sequence[str]] | None = None, **options: Any) -> list[Record]:
    """Records of this protocol with captions of one's own.

    Args:
        model, data, options: as :func:`diptych.evaluate.run.evaluate` takes them.
        captions: a ``.txt`` (a caption a line), ``.csv``, ``.tsv`` or ``.jsonl`` file, or any data that opens.
        synonyms: by class name, further names of the class.

    Raises:
        UsageError: the data has no classes or labels, a table has no column of captions, or a synonym belongs to no class.
    """
    from diptych.evaluate.run import evaluate

    return evaluate(model, counted_in(material(data), captions, synonyms), protocols=[CARD.id], **options)


def counted_in(data: Material, captions: Any, synonyms: Mapping[str, Sequence[str]] | None = None) -> Material:
    """``data`` with the captions in which its classes are counted; its version says which.

    Raises:
        DiptychError: the captions cannot be found.
    """
    if isinstance(captions, (str, Path)) and Path(captions).suffix.lower() in frequency.TEXT_SUFFIXES and not Path(captions).is_file():
        raise DiptychError(f"captions {captions}", "no such file", "Give a .txt, .csv, .tsv or .jsonl file, or data that opens")
    told = hash_of([str(captions), repr(sorted((k, tuple(v)) for k, v in (synonyms or {}).items())), *_stamp(captions)])
    roles = {**data.companions, "captions": captions, "synonyms": synonyms or {}}
    return replace(data, version=f"{data.version}/{told[:6]}", companions=roles)


def _stamp(captions: Any) -> list[str]:
    """What changes when a caption file does."""
    path = Path(captions) if isinstance(captions, (str, Path)) else None
    return [str(path.stat().st_size), str(path.stat().st_mtime_ns)] if path is not None and path.is_file() else []


def run(question: Question) -> Outcome:
    """Spearman correlation, head and tail, accuracy by powers of ten; intervals resample classes.

    Raises:
        UsageError: as :func:`tails`.
    """
    companions = question.view.data.companions
    names = frequency.Names(question.classes, companions.get("synonyms"))
    count_K, by_name, total = frequency.count(names, frequency.captions_of(companions.get("captions", companions.get("train"))))
    index_N = (question.table.label_N >= 0).nonzero()[:, 0]
    image_ND, label_N = question.image_ND[index_N], question.table.label_N[index_N]
    hit_N = hits(question, image_ND, label_N, question.classes)
    accuracy_C, class_C = classification.per_class(hit_N, label_N, len(question.classes))
    count_C = count_K[class_C]
    chance = 1 / len(question.classes)
    pair_C2 = torch.stack([count_C.double(), accuracy_C], 1)
    known = math.isfinite(frequency.spearman(pair_C2))  # not where all classes are named as often, or answered as well
    metrics = [Metric("frequency_spearman", pair_C2, class_C, 0.0, hits=False, of=frequency.spearman)] if known else []
    metrics += ends(count_C, accuracy_C, class_C, chance)
    for name, mask in bins(count_C).items():
        metrics.append(Metric(f"top1_by_frequency[{name}]", accuracy_C[mask], class_C[mask], chance, hits=False))
    if any(len(each) > 1 for each in names.names):
        best = [each[int(counted.argmax())] for each, counted in zip(names.names, by_name, strict=True)]
        change_N = hits(question, image_ND, label_N, best) - hit_N
        metrics.append(Metric("frequent_name_change", change_N, question.table.group_N[index_N], 0.0, hits=False))
    show = {"count_C": count_C, "accuracy_C": accuracy_C, "names": [question.classes[c] for c in class_C.tolist()], "total": total}
    return Outcome(CARD.id, tuple(metrics), index_N, show)


def hits(question: Question, image_ND: Tensor, label_N: Tensor, names: Sequence[str]) -> Tensor:
    """1.0 where zero-shot classification by ``names`` is right."""
    rows_KD = class_rows(names, question.templates, question.encode_text)
    return classification.top_k(classification.feature_ranks(image_ND, rows_KD, label_N), 1)


def ends(count_C: Tensor, accuracy_C: Tensor, class_C: Tensor, chance: float) -> list[Metric]:
    """Top-1 of the rarest and of the most frequent fifth of the classes (equal counts in order), and the difference.

    The difference is left out where an end has fewer than :data:`FEWEST` classes: too many resamples would miss one end altogether.
    """
    order_C, few = count_C.argsort(stable=True), max(1, round(SHARE * len(count_C)))
    rare, often = order_C[:few], order_C[-few:]
    value = torch.stack([torch.cat([accuracy_C[rare], accuracy_C[often]]), torch.cat([torch.zeros(few), torch.ones(few)]).double()], 1)

    def difference(value_M2: Tensor) -> float:
        head = value_M2[:, 1] == 1
        return float(value_M2[head, 0].mean() - value_M2[~head, 0].mean())

    metrics = [
        Metric("tail_top1", accuracy_C[rare], class_C[rare], chance, hits=False),
        Metric("head_top1", accuracy_C[often], class_C[often], chance, hits=False),
    ]
    if few >= FEWEST:
        metrics.append(Metric("head_over_tail", value, torch.cat([class_C[rare], class_C[often]]), 0.0, hits=False, of=difference))
    return metrics


def bins(count_C: Tensor) -> dict[str, Tensor]:
    """Classes by powers of ten of their counts: ``"never"``, ``"1 to 9"``, ``"10 to 99"`` …; empty bins are left out."""
    found = {"never": count_C == 0}
    for power in range(math.ceil(math.log10(int(count_C.max()) + 1)) if len(count_C) else 0):
        low, high = 10**power, 10 ** (power + 1)
        found[f"{low:,} to {high - 1:,}"] = (count_C >= low) & (count_C < high)
    return {name: mask for name, mask in found.items() if bool(mask.any())}


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """Accuracy against frequency, and the rarest classes."""
    count_C, accuracy_C, names = (outcome.show[key] for key in ("count_C", "accuracy_C", "names"))
    edge = [0, *sorted({round(10 ** (i / 3)) for i in range(25)})]
    points = []
    for low, high in zip(edge, [*edge[1:], 10**12], strict=True):
        mask = (count_C >= low) & (count_C < high)
        if bool(mask.any()):
            points.append([float(count_C[mask].double().mean()) + 1, round(float(accuracy_C[mask].mean()), 4)])
    order = count_C.argsort(stable=True)[:RAREST].tolist()
    rows = [{"name": f"{names[c]} ({int(count_C[c])})", "value": round(float(accuracy_C[c]), 4)} for c in order]
    about = f"{outcome.show['total']:,} pictures with captions were counted; each point is the mean over the classes of like frequency."
    return {
        "figures": [
            {
                "kind": "lines",
                "title": "Top-1 against how often a class is named",
                "about": about,
                "series": [{"name": "classes", "points": points}],
                "x": "captions that name it, plus 1",
                "y": "top-1",
                "log": True,
            },
            {"kind": "bars", "title": "The rarest classes, with how often they are named", "rows": rows},
        ]
    }
