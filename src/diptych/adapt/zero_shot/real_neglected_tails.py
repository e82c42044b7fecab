"""REAL: name a class by its most frequent synonym; and fit a balanced linear head on pictures found by their captions.

Paper: Parashar et al., "The Neglected Tails in Vision-Language Models", CVPR 2024, arXiv:2401.12425 (counting;
REAL-Prompt and REAL-Linear).
Code: https://github.com/shubhamprshr27/NeglectedTailsVLM
Relations: ``prompt-ensemble`` averages many prompts of one name. The linear head is ``linear-probe``'s with texts among its examples
(cross-modal adaptation, arXiv:2301.06267), on pictures that nobody labelled, and half of it is the zero-shot head.

Shapes: K classes, M captioned pictures, R retrieved pairs of a picture and a class, T prompts, D joint width, N pictures to name.

::

    count[w] = number of captions with the words w in a row                    # for each name and synonym w of a class
    name[k] = the synonym of greatest count, the given name where it is as great
    row[k] = unit(mean(text(template with name[k]) for template in templates))
    logits[n, k] = scale * image[n] · row[k]                                   # REAL-Prompt

    found[k] = the per_class pictures with a synonym of k in a caption whose caption is most like all of k's synonyms
    weight = row; for each batch of 32 found pictures and 32 prompts:          # REAL-Linear, with linear=True
        weight = AdamW step on cross_entropy(scale * rows @ weight.T, classes)
    logits[n, k] = scale * image[n] · ((1 - share) * row[k] + share * weight[k])

The steps (10 passes over the found pictures, learning rate 1e-4 falling along a cosine, decay 0.01) and the share 0.5 are the paper's for
every set: nothing is tuned, and labels are never looked at. The paper's counting asks a language model which captions mean the class; here
words are only matched, so ambiguous names are counted too often. Synonyms come from a file, or are other names that the corpus knows;
captions come from a file with one a line, or are those of the labelled pictures.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.captioned import captions_of, counts, matches, tokens
from diptych.adapt.parts.shots import Shots
from diptych.adapt.parts.words import read_words, renamed
from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.towers.head import Head

CARD = Card(
    id="real-neglected-tails",
    name="REAL",
    family="adapt",
    paper="The Neglected Tails in Vision-Language Models, arXiv:2401.12425",
    where="the counting of concepts, REAL-Prompt and REAL-Linear",
    code="https://github.com/shubhamprshr27/NeglectedTailsVLM",
    claim="frequent synonyms name pictures better than given names; a head on balanced retrieved pictures lifts the rare classes most",
    published="synonyms win on nine sets; 400 times less storage and 10,000 times less training than the retrieval before it",
)
GRID = {}
BATCH = 32


class Options(BaseModel):
    """Settings of :func:`real_neglected_tails`.

    Args:
        synonyms: a file of synonyms; None takes other names that the embedded corpus knows.
        captions: a file with one caption a line to count in; None counts in the captions of the labelled pictures.
        linear: fit the head on retrieved pictures too; they are the labelled ones, whose labels are not looked at.
        per_class: at most this many retrieved pictures of a class. The paper takes 500.
        share: how much of the fitted head is taken, 0 to 1.
        epochs: passes over the retrieved pictures.
        lr: first learning rate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    synonyms: str | None = None
    captions: str | None = None
    linear: bool = False
    per_class: int = Field(default=100, ge=1)
    share: float = Field(default=0.5, ge=0.0, le=1.0)
    epochs: int = Field(default=10, ge=1)
    lr: float = Field(default=1e-4, gt=0.0)


def real_neglected_tails(
    shots: Shots,
    *,
    synonyms: str | None = None,
    captions: str | None = None,
    linear: bool = False,
    per_class: int = 100,
    share: float = 0.5,
    epochs: int = 10,
    lr: float = 1e-4,
) -> Head:
    """The head; see the module. Raises :class:`UsageError` where there are no captions to count in, or none to retrieve by."""
    other = renamed(shots.classes) if synonyms is None else read_words(synonyms, shots.classes)
    names = [(name, *(one for one in some if one != name)) for name, some in zip(shots.classes, other, strict=True)]
    count = counts({one for some in names for one in some}, captions_of(captions, shots))
    best = [max(some, key=lambda one: count[one]) for some in names]
    prompt_TD = shots.texts([template.replace("{}", one) for one in best for template in shots.templates])
    row_KD = F.normalize(prompt_TD.double().unflatten(0, (len(best), -1)).mean(1), dim=1).float()
    replaced = sum(a != b for a, b in zip(best, shots.classes, strict=True))
    made_by = f"real-neglected-tails, {replaced} of {len(best)} names replaced"
    if not linear:
        return shots.linear(shots.scale * row_KD, made_by=made_by)
    at_R, label_R = retrieved(shots, names, per_class)
    owner_T = torch.arange(len(best)).repeat_interleave(len(shots.templates))
    weight_KD = fitted(shots, row_KD, (shots.image_SD[at_R], label_R), (prompt_TD, owner_T), epochs, lr)
    made_by += f", {len(at_R)} pictures retrieved for {len(label_R.unique())} classes, share {share:g}"
    return shots.linear(shots.scale * torch.lerp(row_KD, weight_KD, share), made_by=made_by)


def retrieved(shots: Shots, names: Sequence[tuple[str, ...]], per_class: int) -> tuple[Tensor, Tensor]:
    """Indices of captioned pictures and the classes they were found for ``(R,)``, at most ``per_class`` of each, likest captions first."""
    if not any(shots.captions):
        raise UsageError("real-neglected-tails, linear", "the pictures have no captions to find them by", "Give data with captions")
    owners: dict[tuple[str, ...], list[int]] = {}
    for k, some in enumerate(names):
        for run in {tokens(one) for one in some} - {()}:
            owners.setdefault(run, []).append(k)
    sizes, wanted = {len(run) for run in owners}, set(owners)
    flat = [(s, caption) for s, some in enumerate(shots.captions) for caption in some]
    found = [(s, c, k) for c, (s, caption) in enumerate(flat) for run in sorted(matches(wanted, sizes, caption)) for k in owners[run]]
    if not found:
        raise UsageError("real-neglected-tails, linear", "no caption names any class", "Give captions that do, or synonyms=FILE")
    texts = list(dict.fromkeys(flat[c][1] for _, c, _ in found))
    row_CD, at = shots.texts(texts), {text: i for i, text in enumerate(texts)}
    class_KD = torch.stack([F.normalize(shots.texts(list(some)).mean(0), dim=0) for some in names])
    caption_F = torch.tensor([at[flat[c][1]] for _, c, _ in found])
    alike = (row_CD[caption_F] * class_KD[[k for _, _, k in found]]).sum(1).tolist()
    best: dict[tuple[int, int], float] = {}
    for (s, _, k), value in zip(found, alike, strict=True):
        best[k, s] = max(value, best.get((k, s), -math.inf))
    order = sorted(best, key=lambda pair: (pair[0], -best[pair], pair[1]))
    taken, kept = Counter[int](), []
    for k, s in order:
        if taken[k] < per_class:
            taken[k] += 1
            kept.append((s, k))
    pair_R2 = torch.tensor(kept)
    return pair_R2[:, 0], pair_R2[:, 1]


def fitted(shots: Shots, row_KD: Tensor, pictures: tuple[Tensor, Tensor], prompts: tuple[Tensor, Tensor], epochs: int, lr: float) -> Tensor:
    """Weights (K, D) that start at ``row_KD`` and are trained on batches of half pictures, half prompts (each rows and classes)."""
    weight_KD = row_KD.clone().requires_grad_()
    optimizer = torch.optim.AdamW([weight_KD], lr=lr, weight_decay=0.01)
    steps = epochs * math.ceil(len(pictures[1]) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    order_T = torch.zeros(0, dtype=torch.int64)
    with torch.enable_grad():
        for _ in range(epochs):
            for part in torch.randperm(len(pictures[1]), generator=shots.draw).split(BATCH):
                if len(order_T) < BATCH:
                    order_T = torch.cat([order_T, torch.randperm(len(prompts[1]), generator=shots.draw)])
                texts, order_T = order_T[:BATCH], order_T[BATCH:]
                rows = torch.cat([pictures[0][part], prompts[0][texts]])
                label = torch.cat([pictures[1][part], prompts[1][texts]])
                loss = F.cross_entropy(shots.scale * rows @ weight_KD.T, label)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return weight_KD.detach()
