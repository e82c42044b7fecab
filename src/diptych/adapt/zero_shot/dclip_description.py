"""Classification by description: a class is scored by the mean similarity to what describes it, not by its bare name.

Paper: Menon and Vondrick, "Visual Classification via Description from Large Language Models", ICLR 2023, arXiv:2210.07183
(the score is the mean over the class's descriptors; "{class}, which has {descriptor}").
Code: https://github.com/sachit-menon/classify_by_description_release
Relations: ``prompt-ensemble`` averages prompts that are the same for all classes; ``description-semantics`` chooses descriptions by what
they tell apart and asks whether it is their meaning that helps.

Shapes: K classes, J descriptors of a class, D joint width, N pictures to name.

::

    score[n, k] = mean(image[n] · text(f"{name[k]}, which has {d}") for d in descriptors[k])
    logits[n, k] = scale * score[n, k]

The mean of similarities is the similarity to the mean row, so this is a linear head, with rows that are not made unit. A class without
descriptors has its bare name. The paper asks a language model for descriptors; here they come from a file of the user's
(:mod:`diptych.adapt.parts.words` says its form; the published files are of it) or else from the keywords that the embedded corpus has.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from diptych.adapt.parts.shots import Shots
from diptych.adapt.parts.words import described, read_words
from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.towers.head import Head

CARD = Card(
    id="dclip-description",
    name="Classification by description",
    family="adapt",
    paper="Visual Classification via Description from Large Language Models, arXiv:2210.07183",
    where="the score: a mean over descriptors",
    code="https://github.com/sachit-menon/classify_by_description_release",
    claim="better than bare names across sets; recognises what the model has no name for; its descriptors can be read and edited",
    published="more accurate on ImageNet and under shift than names alone (abstract, no figures)",
)
GRID = {}


class Options(BaseModel):
    """Settings of :func:`dclip_description`.

    Args:
        descriptions: a file of descriptors; None takes keywords of the embedded corpus.
        form: how name and descriptor become a text; without ``{name}`` the name is left out.
        most: at most this many descriptors of a class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    descriptions: str | None = None
    form: str = "{name}, which has {descriptor}"
    most: int = Field(default=6, ge=1)


def dclip_description(
    shots: Shots, *, descriptions: str | None = None, form: str = "{name}, which has {descriptor}", most: int = 6
) -> Head:
    """The head; see the module.

    Raises:
        UsageError: no class has descriptors, the form has no ``{descriptor}``, or the file does not fit.
    """
    if "{descriptor}" not in form:
        raise UsageError(f"form {form!r}", "it has no {descriptor}", "Write it like '{name}, which has {descriptor}'")
    told = described(shots.classes, most) if descriptions is None else [one[:most] for one in read_words(descriptions, shots.classes)]
    if not any(told):
        raise UsageError("dclip-description", "nothing describes any of these classes", "Give a file with descriptions=PATH")
    texts = [_texts(name, words, form) for name, words in zip(shots.classes, told, strict=True)]
    source = "corpus keywords" if descriptions is None else "descriptions of a file"
    made_by = f"dclip-description, {sum(map(len, told))} {source}, {form!r}"
    return shots.linear(shots.scale * mean_rows(shots, texts), made_by=made_by)


def _texts(name: str, words: tuple[str, ...], form: str) -> list[str]:
    """The texts of one class; its bare name where nothing describes it."""
    return [form.replace("{name}", name).replace("{descriptor}", word) for word in words] or [name]


def mean_rows(shots: Shots, texts: list[list[str]]) -> Tensor:
    """Mean row of each class's texts (K, D), not made unit."""
    owner_T = torch.tensor([k for k, some in enumerate(texts) for _ in some])
    row_TD = shots.texts([text for some in texts for text in some]).double()
    sum_KD = torch.zeros(len(texts), shots.width, dtype=torch.float64).index_add_(0, owner_T, row_TD)
    return (sum_KD / torch.bincount(owner_T, minlength=len(texts))[:, None]).float()
