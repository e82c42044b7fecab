"""Prompt ensembling: each class is the mean row of its name in many prompts.

Paper: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, arXiv:2103.00020, section 3.1.4.
Code: https://github.com/openai/CLIP (``Prompt_Engineering_for_ImageNet``)
Relations: zero-shot classification with one template is this with one prompt; ``dclip-description`` fills the prompts with descriptors
and does not make their mean a unit row.

Shapes: K classes, P prompts, D joint width, N pictures to name.

::

    row[k] = unit(mean(text(prompt with name[k]) for prompt in prompts))
    logits[n, k] = scale * image[n] · row[k]

The mean is taken of rows, not of probabilities, so it costs no more to answer with than a single prompt. The paper wrote 80 prompts for
ImageNet and others for other sets, by hand; the sets here are short ones of our own, and ``templates`` takes any.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.shots import Shots
from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.towers.head import Head

CARD = Card(
    id="prompt-ensemble",
    name="Prompt ensembling",
    family="adapt",
    paper="Learning Transferable Visual Models From Natural Language Supervision, arXiv:2103.00020",
    where="section 3.1.4",
    code="https://github.com/openai/CLIP",
    claim="many prompts, averaged as rows, name more pictures rightly than one",
    published="ImageNet: 80 prompts 3.5 points above the one default prompt, itself 1.3 above bare names (section 3.1.4)",
)
PHOTOS = (
    "a photo of a {}.",
    "a close-up photo of a {}.",
    "a blurry photo of a {}.",
    "a bright photo of the {}.",
    "a dark photo of the {}.",
    "a photo of one {}.",
    "a photo of a small {}.",
    "a photo of a large {}.",
)
DRAWINGS = (
    "{}",
    "a {}",
    "a drawing of a {}",
    "an icon of a {}",
    "an emoji: {}",
    "a cartoon {}",
    "a sketch of the {}",
    "a painting of a {}",
)
GRID = {"kind": ("own", "photos", "drawings", "all")}


class Options(BaseModel):
    """Settings of :func:`prompt_ensemble`.

    Args:
        kind: which prompts: the set's or model's ``"own"``, eight for ``"photos"``, eight for ``"drawings"``, or ``"all"`` of these.
        templates: prompts with one ``{}`` for the name, instead of ``kind``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["own", "photos", "drawings", "all"] = "all"
    templates: tuple[str, ...] = ()


def prompt_ensemble(shots: Shots, *, kind: Literal["own", "photos", "drawings", "all"] = "all", templates: tuple[str, ...] = ()) -> Head:
    """The head; see the module. Raises :class:`UsageError` for a template without ``{}``."""
    known = {"own": shots.templates, "photos": PHOTOS, "drawings": DRAWINGS, "all": (*shots.templates, *PHOTOS, *DRAWINGS)}
    prompts = tuple(dict.fromkeys(templates or known[kind]))
    if wrong := next((prompt for prompt in prompts if "{}" not in prompt), None):
        raise UsageError(f"template {wrong!r}", "it has no {} for the name", "Write it like 'a photo of a {}.'")
    made_by = f"prompt-ensemble, {len(prompts)} prompts" + ("" if templates else f" ({kind})")
    return shots.linear(shots.scale * ensemble(shots, prompts), made_by=made_by)


def ensemble(shots: Shots, prompts: tuple[str, ...]) -> Tensor:
    """Unit rows (K, D): the mean of each name's rows over the prompts, one prompt's texts at a time."""
    total_KD = torch.zeros(len(shots.classes), shots.width, dtype=torch.float64)
    for prompt in prompts:
        total_KD += shots.texts([prompt.replace("{}", name) for name in shots.classes]).double()
    return F.normalize(total_KD, dim=1).float()
