"""Is it damaged, and where? Words for whole and damaged things, and, beside them, patches of whole things that are remembered.

Papers: Jeong et al., WinCLIP: Zero-/Few-Shot Anomaly Classification and Segmentation (arXiv:2303.14814), section 4.1 (state words for whole
and damaged things); Roth et al., Towards Total Recall in Industrial Anomaly Detection (arXiv:2106.08265), section 3 (PatchCore: distance
to the nearest remembered patch; here all patches are kept, of the same thing, under cosine distance).

    words:   score(picture) = picture · damaged − picture · whole,   score(patch) the same with the projected patch token
    memory:  score(patch)   = 1 − max over patches of whole things in training of their cosine;   score(picture) = max over its patches

A sample's ``meta`` has ``damaged``, ``name`` (``"a dog"``), ``damage`` (the mask of the damage, COCO's uncompressed run lengths) and
``pair``, which is resampled. The AUROC of places counts pixels, a pixel having the score of its patch; pictures without damage take part.
Shapes: N pictures, P patches, D joint width, E the tower's width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.core.types import Sample
from diptych.evaluate import patches
from diptych.evaluate.details import Thumbs
from diptych.evaluate.metrics.localisation import weighted_auroc
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.protocols.choice import asked, units

CARD = Card(
    id="anomaly",
    name="Damage found",
    family="protocol",
    paper="WinCLIP: Zero-/Few-Shot Anomaly Classification and Segmentation (arXiv:2303.14814)",
    where="section 4.1",
    needs=frozenset({"damage"}),
)
ORDER = 25
ASPECT = "Anomalies"
SUITES = {"full": ("pictobench/anomaly",)}
ABOUT = {
    "image_auroc": About("Damaged or whole, by words", "a damaged picture scores above a whole one"),
    "pixel_auroc": About("Where, by words", "a damaged pixel scores above a whole one"),
    "memory_image_auroc": About("Damaged or whole, by memory", "the same, against remembered patches of whole things"),
    "memory_pixel_auroc": About("Where, by memory", "the same, against remembered patches of whole things"),
}
WHOLE = ("{}", "flawless {}", "perfect {}", "unblemished {}", "{} without damage")
DAMAGED = ("damaged {}", "broken {}", "{} with a flaw", "{} with a defect", "{} with damage")
SHOWN = 12


def applies(question: Question) -> bool:
    """The samples say whether and where they are damaged."""
    return all(asked(question, field) for field in ("damaged", "damage", "name"))


def run(question: Question) -> Outcome:
    """AUROC of pictures, of each kind of damage too; of places where the model gives patch tokens; by memory where there is a train split.

    Raises:
        UsageError: a sample's damage cannot be read, or one of a kind is missing.
        SealedError: the train split holds test pictures.
    """
    samples = question.view.samples()
    bad_N = torch.tensor([bool(sample.meta["damaged"]) for sample in samples]).double()
    unit_N = units(samples, "pair")
    names = sorted({str(sample.meta["name"]) for sample in samples})
    at_N = torch.tensor([names.index(str(sample.meta["name"])) for sample in samples])
    turn_ND = (states(question, names, DAMAGED) - states(question, names, WHOLE))[at_N]
    score_N = (question.image_ND * turn_ND).sum(1)

    def area(name: str, score_NP: Tensor, pixel_NP: Tensor, unit_N: Tensor = unit_N) -> Metric:
        found_NP3 = torch.stack([score_NP.double(), pixel_NP.double(), 1 - pixel_NP.double()], -1)
        return Metric(name, found_NP3, unit_N, 0.5, hits=False, of=weighted_auroc)

    metrics = [area("image_auroc", score_N[:, None], bad_N[:, None])]
    show = {"score_N": score_N, "bad_N": bad_N}
    if question.view.has_tokens:
        token_NPE = torch.cat(list(question.view.tokens()))
        side = patches.side_of(token_NPE.shape[1], question.view.model.config.name)
        pixel_NP = torch.stack([damage(sample, side) for sample in samples])
        map_NP = torch.stack([patches.rows(question.view.model, t_PE) @ turn_D for t_PE, turn_D in zip(token_NPE, turn_ND, strict=True)])
        metrics.append(area("pixel_auroc", map_NP, pixel_NP))
        if question.view.has("train"):
            far_NP = remembered(question, samples, token_NPE)
            metrics += [area("memory_image_auroc", far_NP.amax(1, keepdim=True), bad_N[:, None])]
            metrics += [area("memory_pixel_auroc", far_NP, pixel_NP)]
    kinds = sorted(set(question.table.part) - {""})
    for kind in kinds if len(kinds) > 1 else ():
        in_N = torch.tensor([part == kind for part in question.table.part])
        metrics.append(area(f"image_auroc[{kind}]", score_N[in_N, None], bad_N[in_N, None], unit_N[in_N]))
    return Outcome(CARD.id, tuple(metrics), torch.arange(len(samples)), show)


def states(question: Question, names: list[str], words: tuple[str, ...]) -> Tensor:
    """Unit rows ``(names, D)``: the mean over the words of a state, made unit again."""
    row_MD = question.encode_text([word.replace("{}", name) for name in names for word in words])
    return F.normalize(row_MD.view(len(names), len(words), -1).mean(1), dim=1)


def damage(sample: Sample, side: int) -> Tensor:
    """``pixel_P`` float64: the share of each patch that is damaged."""
    mask_HW = patches.mask_of(sample, sample.meta["damage"])
    if bool(mask_HW.any()) != bool(sample.meta["damaged"]):
        why = "its damage mask says otherwise than its damaged field"
        raise UsageError(f"sample {sample.id}", why, "Give an empty mask to a whole thing, and only to such")
    return torch.from_numpy(patches.counts(mask_HW.astype("int64"), side, 2)[:, 1])


def remembered(question: Question, samples: list[Sample], token_NPE: Tensor) -> Tensor:
    """``far_NP``: 1 − the cosine of each patch to the nearest patch of a whole training picture of the same thing.

    Raises:
        UsageError: the train split has no whole picture of one of the things.
    """
    train = question.view.companion("train").material
    known = [sample for sample in (train.source[i] for i in range(len(train.source))) if not sample.meta.get("damaged", True)]
    memory: dict[str, list[Tensor]] = {}
    for sample, t_PE in zip(known, (t_PE for t_BPE in question.view.tokens(known) for t_PE in t_BPE), strict=True):
        memory.setdefault(str(sample.meta.get("name")), []).append(F.normalize(t_PE, dim=1))
    if lacking := sorted({str(sample.meta["name"]) for sample in samples} - set(memory)):
        raise UsageError(f"set {train.name!r}", f"it has no whole picture of {lacking[0]!r}", "Add one, or leave the train split out")
    banks = {name: torch.cat(parts) for name, parts in memory.items()}
    pairs = zip(samples, F.normalize(token_NPE, dim=2), strict=True)
    return torch.stack([1 - (t_PE @ banks[str(sample.meta["name"])].T).amax(1) for sample, t_PE in pairs])


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """The damaged pictures that the words took for the most whole."""
    score_N, bad_N = outcome.show["score_N"], outcome.show["bad_N"]
    lowest = score_N.masked_fill(bad_N == 0, torch.inf).argsort(stable=True)[: min(SHOWN, int(bad_N.sum()))]
    items = [{"picture": thumbs.name(i), "text": f"score {float(score_N[i]):.3f}"} for i in lowest.tolist()]
    return {"figures": [{"kind": "pictures", "title": "Damaged, and taken for whole", "items": items}]}
