"""Zero-shot classification: the picture against the names of the classes, nothing learned.

Paper: Radford et al., Learning Transferable Visual Models From Natural Language Supervision (arXiv:2103.00020), section 3.1.4 (prompt
templates and ensembling in embedding space).

Each class name is put into every template, the unit rows of its prompts are averaged and made unit again; a picture's class is the
nearest row. Shapes: N pictures, K classes, P templates, D embedding width.

    for name in classes:
        row = mean(encode_text(template with name) for template in templates)
        class_row = row / |row|
    prediction = argmax(image_row · class_row)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.evaluate.details import Thumbs
from diptych.evaluate.material import Table
from diptych.evaluate.metrics import classification
from diptych.evaluate.metrics.retrieval import best_matches
from diptych.evaluate.outcome import About, EncodeText, Metric, Outcome, Question
from diptych.evaluate.set_metrics import in_front, of_classes

CARD = Card(
    id="zero_shot",
    name="Zero-shot classification",
    family="protocol",
    paper="Learning Transferable Visual Models From Natural Language Supervision (arXiv:2103.00020)",
    where="section 3.1.4",
    code="https://github.com/openai/CLIP",
    needs=frozenset({"labels"}),
)
ORDER = 0
ASPECT = "Naming"
SUITES = {
    "quick": ("pictograms/zero-shot", "pictograms/unseen"),
    "full": (
        "pictograms/zero-shot",
        "pictograms/unseen",
        "pictograms/unseen-known-styles",
        "pictograms/groups",
        *(f"pictograms/zero-shot-{language}" for language in ("de", "fr", "es", "ru", "zh", "ja", "ko", "hi")),
    ),
}
ABOUT = {
    "top1": About("Top-1", "the right name comes first"),
    "top5": About("Top-5", "the right name is among the first five"),
    "mean_per_class": About("Mean per class", "top-1, every class counting the same"),
    "worst_group": About("Worst group", "top-1 of the part of the set where it is lowest"),
    "worst_group_top5": About("Worst group, top-5", "top-5 of the part of the set where it is lowest"),
    "f1_macro": About("F1, macro", "F1 of each class that occurs, every class counting the same"),
}
SHOWN = 12

DEFAULT_TEMPLATES = ("a photo of a {}.", "a picture of a {}.", "a drawing of a {}.", "an image of a {}.", "{}")


def fill(template: str, name: str) -> str:
    """``template`` with the class name at its ``{}`` or ``{c}``. Raises :class:`UsageError` where it has neither."""
    for place in ("{}", "{c}"):
        if place in template:
            return template.replace(place, name)
    raise UsageError(
        f"template {template!r}", "it has no place for the class name", "Write {} where the name belongs, as in 'a photo of a {}.'"
    )


def class_rows(classes: Sequence[str], templates: Sequence[str], encode_text: EncodeText) -> Tensor:
    """Unit rows ``class_KD``: each the normalised mean of its prompts' unit rows.

    Raises:
        UsageError: there are no classes or templates, or a template has no ``{}``.
    """
    if not classes or not templates:
        raise UsageError("zero_shot", f"{len(classes)} classes and {len(templates)} templates", "Give at least one of each")
    prompt_rows = encode_text([fill(template, name) for name in classes for template in templates])
    prompt_KPD = prompt_rows.double().view(len(classes), len(templates), -1)
    return torch.nn.functional.normalize(prompt_KPD.mean(1), dim=1).float()


def applies(question: Question) -> bool:
    """The set has classes and some picture has a label."""
    return bool(question.classes) and bool((question.table.label_N >= 0).any())


def run(question: Question) -> Outcome:
    """Top-1, top-5, mean per class, and top-1 of each part of the set, on the pictures that have a label.

    Intervals resample concepts where the set names them (several drawings of one concept are not independent), else pictures; for the
    mean per class they resample classes. A set whose makers chose another main number has it first.

    Raises:
        UsageError: a label lies outside the classes, or a template has no ``{}``.
    """
    index_N = (question.table.label_N >= 0).nonzero()[:, 0]
    table, image_ND = question.table.take(index_N), question.image_ND[index_N]
    class_KD = class_rows(question.classes, question.templates, question.encode_text)
    rank_N = classification.feature_ranks(image_ND, class_KD, table.label_N)
    count = len(class_KD)
    top1_N, top5_N = classification.top_k(rank_N, 1), classification.top_k(rank_N, 5)
    mean_C, class_C = classification.per_class(top1_N, table.label_N, count)
    chance1, chance5 = classification.top_k_chance(1, count), classification.top_k_chance(5, count)
    metrics = [Metric("top1", top1_N, table.group_N, chance1)]
    if count > 5:
        metrics.append(Metric("top5", top5_N, table.group_N, chance5))
    metrics.append(Metric("mean_per_class", mean_C, class_C, chance1, hits=False))
    metrics += parts(top1_N, table, "top1", chance1)
    predicted_N = classification.predictions(image_ND, class_KD)
    metrics += of_classes(question.metric, table, top1_N, top5_N, predicted_N, (chance1, chance5))
    show = {"predicted_N": predicted_N, "label_N": table.label_N, "image_ND": image_ND, "class_KD": class_KD, "classes": question.classes}
    return Outcome(CARD.id, in_front(metrics, question.metric), index_N, show)


def parts(value_N: Tensor, table: Table, name: str, chance: float) -> list[Metric]:
    """``name[part]`` for each part of the set that samples name, in alphabetical order; none where there is only one."""
    names = sorted(set(table.part) - {""})
    if len(names) < 2:
        return []
    chosen = {part: torch.tensor([p == part for p in table.part]) for part in names}
    return [Metric(f"{name}[{part}]", value_N[mask], table.group_N[mask], chance) for part, mask in chosen.items()]


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """The most frequent mistakes, and those that the model is surest of, as pictures."""
    position = outcome.index_N.tolist()
    figures = [_confused(outcome, thumbs, position), _surest(outcome, thumbs, position)]
    return {"classes": len(outcome.show["classes"]), "figures": [figure for figure in figures if figure["items"]]}


def _confused(outcome: Outcome, thumbs: Thumbs, position: list[int]) -> dict[str, Any]:
    """A picture that was taken for another class beside a picture of that class, by how often."""
    predicted_N, label_N, classes = (outcome.show[key] for key in ("predicted_N", "label_N", "classes"))
    first = {label: position[i] for i, label in reversed(list(enumerate(label_N.tolist())))}
    count = torch.bincount(label_N, minlength=len(classes)).tolist()
    items = []
    for true, predicted, times in classification.most_confused(predicted_N, label_N, SHOWN):
        example = int(((label_N == true) & (predicted_N == predicted)).nonzero()[0, 0])
        other = thumbs.name(first[predicted]) if predicted in first else None
        note = f"{times} of {count[true]} pictures"
        one = {"picture": thumbs.name(position[example]), "other": other, "text": classes[true], "answer": classes[predicted]}
        items.append({**one, "note": note})
    about = "The most frequent mistakes. Left a picture that was named wrongly, right a picture of what it was taken for."
    return {"kind": "pictures", "title": "What it takes for what", "about": about, "items": items}


def _surest(outcome: Outcome, thumbs: Thumbs, position: list[int]) -> dict[str, Any]:
    """The mistakes whose answer leads the runner-up by most, one of each pair of classes."""
    predicted_N, label_N, classes = (outcome.show[key] for key in ("predicted_N", "label_N", "classes"))
    image_ND, class_KD = outcome.show["image_ND"], outcome.show["class_KD"]
    wrong_W = (predicted_N != label_N).nonzero()[:, 0]
    items: dict[tuple[int, int], dict[str, Any]] = {}
    if len(wrong_W) and len(class_KD) > 1:
        top_W2, _ = best_matches(image_ND[wrong_W], class_KD, 2)
        for w in (top_W2[:, 0] - top_W2[:, 1]).argsort(descending=True, stable=True).tolist():
            i = int(wrong_W[w])
            pair = int(label_N[i]), int(predicted_N[i])
            if pair not in items:
                own = float(image_ND[i].float() @ class_KD[pair[0]].float())
                note = f"cosine {float(top_W2[w, 0]):.2f}; the next name {float(top_W2[w, 1]):.2f}, the right one {own:.2f}"
                items[pair] = {"picture": thumbs.name(position[i]), "text": classes[pair[0]], "answer": classes[pair[1]], "note": note}
            if len(items) == SHOWN:
                break
    about = "Wrong answers that lead the next name by most: look here first for wrong labels and for things it has never learned."
    return {"kind": "pictures", "title": "Failures it is surest of", "about": about, "items": list(items.values())}
