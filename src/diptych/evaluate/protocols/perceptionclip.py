"""PerceptionCLIP: infer the background first, then name the thing given the background. Nothing is learned.

Paper: An et al., PerceptionCLIP: Visual Classification by Inferring and Conditioning on Contexts (arXiv:2308.01313),
algorithm 1.

With f(y, z; x) the logit of "class y on background z" and f(z; x) that of "background z" alone:

    p(z|x)   = Σ_y exp(f(y,z;x)/τ) / Σ_z Σ_y exp(f(y,z;x)/τ)        ClassAttr: inferred with the classes (``worst_group``)
    p(z|x)   = exp(f(z;x)/τ) / Σ_z exp(f(z;x)/τ)                    PureAttr: inferred without them (``pure_worst_group``)
    p(y|x,z) = exp(f(y,z;x)) / Σ_y exp(f(y,z;x))
    p(y|x)   = Σ_z p(y|x,z) · p(z|x)

``plain`` is zero-shot with the class names alone, on the same templates. A sample's ``meta`` has ``background``, ``backgrounds`` (all of
them, in words), ``home`` and ``drawing``, which is resampled. Shapes: N pictures, Y classes, Z backgrounds, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.evaluate.details import Thumbs
from diptych.evaluate.metrics.classification import label_ranks, top_k, top_k_chance
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.protocols import counteranimal
from diptych.evaluate.protocols.choice import asked
from diptych.evaluate.protocols.zero_shot import class_rows

CARD = Card(
    id="perceptionclip",
    name="PerceptionCLIP",
    family="protocol",
    paper="PerceptionCLIP: Visual Classification by Inferring and Conditioning on Contexts (arXiv:2308.01313)",
    where="algorithm 1",
    code="https://github.com/umd-huang-lab/perceptionCLIP",
    needs=frozenset({"labels", "backgrounds"}),
    claim="inferring the background and conditioning on it raises the accuracy of the worst group",
    published="ViT-L/14 worst group +16.5 points on Waterbirds, +3.5 on CelebA",
)
ORDER = 27
ASPECT = "Backgrounds"
SUITES = {"full": ("pictobench/background",)}
ABOUT = {
    "perception_gain": About("Gain in the worst group", "worst group of PerceptionCLIP (ClassAttr) less that of plain prompts"),
    "perception_worst_group": About("Worst group, ClassAttr", "background inferred together with the classes"),
    "pure_worst_group": About("Worst group, PureAttr", "background inferred by itself"),
    "plain_worst_group": About("Worst group, plain prompts", "class names alone"),
    "perception_top1": About("Top-1, ClassAttr", "the right name comes first"),
    "pure_top1": About("Top-1, PureAttr", "the right name comes first"),
    "plain_top1": About("Top-1, plain prompts", "the right name comes first"),
    "background_top1": About("Background told", "the right background comes first, inferred together with the classes"),
}
CONTEXT = "{y} on a {z} background"
PURE = "a {z} background"
TAUS = (1.0, 3.0, 5.0, 10.0)  # the paper's; the numbers are at the first, the figure shows all


def applies(question: Question) -> bool:
    """CounterAnimal applies, and the samples list the backgrounds."""
    return counteranimal.applies(question) and asked(question, "backgrounds")


def conditioned(logit_NYZ: Tensor, context_NZ: Tensor) -> Tensor:
    """``p_NY``: the classes' probabilities given each background, weighted by ``context_NZ``."""
    return (logit_NYZ.double().softmax(1) * context_NZ[:, None, :]).sum(2)


def inferred(logit_NYZ: Tensor, tau: float = 1.0) -> Tensor:
    """``p_NZ`` with the classes (ClassAttr)."""
    return (logit_NYZ.double() / tau).logsumexp(1).softmax(1)


def run(question: Question) -> Outcome:
    """Worst group and top-1 of both forms and of plain prompts, and how often the background is told rightly.

    Raises:
        UsageError: samples disagree about the backgrounds, or one's own is none of them.
    """
    index_N = (question.table.label_N >= 0).nonzero()[:, 0]
    label_N, image_ND = question.table.label_N[index_N], question.image_ND[index_N]
    group_N, _, unit_N = counteranimal.groups(question, index_N)
    grounds, ground_N = backgrounds(question, index_N)
    scale = float(torch.as_tensor(getattr(question.view.model, "scale", 100.0)).detach())
    names = [CONTEXT.format(y=y, z=z) for y in question.classes for z in grounds]
    both_MD = class_rows(names, question.templates, question.encode_text)
    logit_NYZ = scale * (image_ND @ both_MD.T).view(len(image_ND), len(question.classes), len(grounds))
    pure_ZD = class_rows([PURE.format(z=z) for z in grounds], question.templates, question.encode_text)
    pure_NZ = scale * (image_ND @ pure_ZD.T).double()
    plain_KD = class_rows(question.classes, question.templates, question.encode_text)
    score = {
        "perception": conditioned(logit_NYZ, inferred(logit_NYZ)),
        "pure": conditioned(logit_NYZ, pure_NZ.softmax(1)),
        "plain": (image_ND @ plain_KD.T).double(),
    }
    hit = {name: top_k(label_ranks(score_NY, label_N), 1) for name, score_NY in score.items()}
    lowest, chance = counteranimal.worst(int(group_N.max()) + 1), top_k_chance(1, len(question.classes))

    def gain(value_N3: Tensor) -> float:
        return lowest(value_N3[:, [0, 2]]) - lowest(value_N3[:, [1, 2]])

    both_N3 = torch.stack([hit["perception"], hit["plain"], group_N.double()], 1)
    metrics = [Metric("perception_gain", both_N3, unit_N, 0.0, hits=False, of=gain)]
    for name, hit_N in hit.items():
        metrics.append(Metric(f"{name}_worst_group", torch.stack([hit_N, group_N.double()], 1), unit_N, chance, hits=False, of=lowest))
    metrics += [Metric(f"{name}_top1", hit_N, unit_N, chance) for name, hit_N in hit.items()]
    told_N = top_k(label_ranks(inferred(logit_NYZ), ground_N), 1)
    metrics.append(Metric("background_top1", told_N, unit_N, 1 / len(grounds)))
    show: dict[str, list[list[float]]] = {"ClassAttr": [], "PureAttr": []}
    for tau in TAUS:
        for name, context_NZ in (("ClassAttr", inferred(logit_NYZ, tau)), ("PureAttr", (pure_NZ / tau).softmax(1))):
            hit_N = top_k(label_ranks(conditioned(logit_NYZ, context_NZ), label_N), 1)
            show[name].append([tau, lowest(torch.stack([hit_N, group_N.double()], 1))])
    plain = lowest(torch.stack([hit["plain"], group_N.double()], 1))
    return Outcome(CARD.id, tuple(metrics), index_N, {**show, "plain": [[tau, plain] for tau in TAUS]})


def backgrounds(question: Question, index_N: Tensor) -> tuple[tuple[str, ...], Tensor]:
    """The backgrounds in words, and each sample's own (int64 ``ground_N``)."""
    samples = question.view.samples(index_N)
    grounds = tuple(str(z) for z in samples[0].meta.get("backgrounds") or ())
    for sample in samples:
        if tuple(sample.meta.get("backgrounds") or ()) != grounds or sample.meta.get("background") not in grounds:
            why = f"its background {sample.meta.get('background')!r} is not among those that all samples list"
            raise UsageError(f"sample {sample.id}", why, 'Write the same "backgrounds": [word, …] into every JSON')
    return grounds, torch.tensor([grounds.index(str(sample.meta["background"])) for sample in samples])


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """Worst-group accuracy against the temperature of the inference."""
    series = [{"name": name, "points": points} for name, points in outcome.show.items()]
    figure = {"kind": "lines", "title": "Worst group against τ", "x": "τ", "y": "accuracy of the worst group", "share": True}
    return {"figures": [figure | {"series": series}]}
