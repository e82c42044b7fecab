"""Style shift: what is lost from the styles trained on to styles never seen.

Paper: Taori et al., Measuring Robustness to Natural Distribution Shifts in Image Classification (arXiv:2007.00644), section 2: accuracy
with and without the shift on the same classes.

In distribution are the pictures of the set's validation split, shifted those of the test set. Only concepts that both have are asked, each
among all names of the set, so that harder concepts on one side are not taken for a shift; and each unseen style is compared with the
trained styles on the concepts that it has. Samples say their style in ``meta["style"]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.evaluate.details import Thumbs
from diptych.evaluate.fitting import named
from diptych.evaluate.metrics import classification
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.protocols.zero_shot import class_rows

CARD = Card(
    id="style_shift",
    name="Style shift",
    family="protocol",
    paper="Measuring Robustness to Natural Distribution Shifts in Image Classification (arXiv:2007.00644)",
    where="section 2",
    needs=frozenset({"labels", "a validation split", "styles in meta"}),
)
ORDER = 34
ASPECT = "Robustness"
SUITES = {"quick": ("pictograms/zero-shot",), "full": ("pictograms/zero-shot",)}
ABOUT = {
    "unseen_style_top1": About("Top-1 in unseen styles", "the right name comes first, on concepts that the trained styles have too"),
    "trained_style_top1": About("Top-1 in trained styles", "the same on the validation split"),
    "style_gap": About("Lost from trained to unseen styles", "top-1 in trained styles, less that in unseen ones", "lower"),
    "style_top1": About("Top-1 of one style", "the right name comes first"),
}
LOOKED_AT = 64


@dataclass(frozen=True, slots=True)
class Sides:
    """Hits, labels and styles of both sides, on the labels that both have. N shifted pictures, M in distribution."""

    hit_N: Tensor
    label_N: Tensor
    style_N: tuple[str, ...]
    index_N: Tensor
    hit_M: Tensor
    label_M: Tensor
    style_M: tuple[str, ...]

    def rows(self) -> tuple[Tensor, Tensor]:
        """``(hit, shifted)`` of all pictures and the label of each, for metrics over both sides."""
        hit, side = torch.cat([self.hit_N, self.hit_M]), torch.cat([torch.ones_like(self.hit_N), torch.zeros_like(self.hit_M)])
        return torch.stack([hit, side], 1), torch.cat([self.label_N, self.label_M])


def applies(question: Question) -> bool:
    """There are classes, labels, a validation split, and styles in the samples' meta."""
    if not named(question) or question.more is None or not question.view.has("validation"):
        return False
    some = question.view.samples(torch.arange(min(LOOKED_AT, len(question.table))))
    return any(sample.meta.get("style") for sample in some)


def sides(question: Question) -> Sides:
    """Both sides named. Raises :class:`UsageError` where no concept is on both."""
    split = question.view.companion("validation")
    known = {name: k for k, name in enumerate(question.classes)}
    label_M = torch.tensor([known.get(split.classes[k], -1) if k >= 0 else -1 for k in split.table.label_N.tolist()])
    label_N = question.table.label_N
    both = torch.tensor(sorted((set(label_N.tolist()) & set(label_M.tolist())) - {-1}), dtype=torch.int64)
    if not len(both):
        why = "its validation split and its test pictures have no class in common"
        raise UsageError(f"set {question.view.data.name!r}", why, "Leave this protocol out")
    index_N, index_M = (torch.isin(label, both).nonzero()[:, 0] for label in (label_N, label_M))
    class_KD = class_rows(question.classes, question.templates, question.encode_text)

    def hits(image_ND: Tensor, label: Tensor) -> Tensor:
        return classification.top_k(classification.feature_ranks(image_ND, class_KD, label), 1)

    shifted, trained = question.view.samples(index_N), [split.material.source[i] for i in index_M.tolist()]
    return Sides(
        hits(question.image_ND[index_N], label_N[index_N]), label_N[index_N], tuple(str(s.meta.get("style", "")) for s in shifted), index_N,
        hits(split.image_ND[index_M], label_M[index_M]), label_M[index_M], tuple(str(s.meta.get("style", "")) for s in trained),
    )  # fmt: skip


def gap(value_N2: Tensor) -> float:
    """Mean of the hits in distribution less that of the shifted ones, of rows ``(hit, shifted)``; NaN where one side is empty."""
    shifted = value_N2[:, 1] > 0
    if bool(shifted.all()) or not bool(shifted.any()):
        return float("nan")
    return float(value_N2[~shifted, 0].mean() - value_N2[shifted, 0].mean())


def run(question: Question) -> Outcome:
    """Top-1 on both sides, the gap, and top-1 of each style; intervals resample concepts, the same on both sides."""
    found = sides(question)
    chance = classification.top_k_chance(1, len(question.classes))
    rows, unit = found.rows()
    metrics = [
        Metric("unseen_style_top1", found.hit_N, found.label_N, chance),
        Metric("trained_style_top1", found.hit_M, found.label_M, chance),
        Metric("style_gap", rows, unit, None, hits=False, of=gap),
    ]
    slopes, bars = [], []
    for hit, label, styles, unseen in (
        (found.hit_M, found.label_M, found.style_M, False),
        (found.hit_N, found.label_N, found.style_N, True),
    ):
        for style in sorted(set(styles)):
            mine = torch.tensor([one == style for one in styles])
            metrics.append(Metric(f"style_top1[{style or 'no style'}]", hit[mine], label[mine], chance))
            value = float(hit[mine].mean())
            bars.append({"name": f"{style or 'no style'} ({'unseen' if unseen else 'trained'})", "value": value, "chance": chance})
            same_M = torch.isin(found.label_M, label[mine])
            if unseen:
                slopes.append({"name": style or "no style", "from": float(found.hit_M[same_M].mean()), "to": value})
    return Outcome(CARD.id, tuple(metrics), found.index_N, {"slopes": slopes, "bars": bars})


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """A slope for each unseen style, and all styles."""
    told = "Top-1 on the concepts that both sides have: in the styles trained on, and in each style never seen."
    slope = {"kind": "slope", "title": "From trained to unseen styles", "about": told, "share": True}
    figures = [slope | {"left": "trained styles", "right": "unseen style", "series": outcome.show["slopes"][:12]}]
    return {"figures": [*figures, {"kind": "bars", "title": "Each style", "share": True, "rows": outcome.show["bars"][:120]}]}
