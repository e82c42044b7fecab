"""PerceptionCLIP: infer the context of the picture first, then name the thing given the context. Nothing is learned.

Paper: An et al., "More Context, Less Distraction: Visual Classification by Inferring and Conditioning on Contextual Attributes", ICLR 2024,
arXiv:2308.01313 (the two-step algorithm: both of its ways to infer the context, and its temperature).
Code: https://github.com/umd-huang-lab/perceptionCLIP
Relations: ``prompt-ensemble`` over the same texts averages rows with equal weights, whatever the picture's context is.

Shapes: N pictures, K classes, Z contexts, D joint width.

::

    f[n, k, z] = scale * image[n] · text("class k in context z");   g[n, z] = scale * image[n] · text("context z")
    p(z|n) = softmax over z of logsumexp over k of f[n, k, z] / tau        # infer = "with classes" (ClassAttr)
    p(z|n) = softmax over z of g[n, z] / tau                               # infer = "alone" (PureAttr)
    p(k|n) = sum over z of p(z|n) * softmax over k of f[n, k, z]
    logits[n, k] = log p(k|n)

Contexts are the combinations of one value of each attribute (background, illumination …); a text is a mean over the templates, as a class
row of zero-shot classification is. The answer is no function of one row a class, so it is a rule. It is computed in float64.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.shots import Shots
from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.towers.rule import Answer, Rule, RuleConfig

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder

CARD = Card(
    id="perceptionclip",
    name="PerceptionCLIP",
    family="adapt",
    paper="More Context, Less Distraction: Visual Classification by Inferring and Conditioning on Contextual Attributes, arXiv:2308.01313",
    where="the two-step algorithm",
    code="https://github.com/umd-huang-lab/perceptionCLIP",
    claim="inferring the context and conditioning on it raises the accuracy of the worst group",
    published="ViT-L/14 worst group +16.5 points on Waterbirds, +3.5 on CelebA (abstract)",
)
GRID = {"infer": ("with classes", "alone"), "tau": (1.0, 3.0, 5.0, 10.0)}
COLOURS = ("white", "black", "grey", "green", "blue", "brown")


class Options(BaseModel):
    """Settings of :func:`perceptionclip`.

    Args:
        contexts: for each attribute the words of its values; a context is one of each, joined by ``", "``.
        form: a class in a context, with ``{y}`` and ``{z}``.
        pure: a context by itself, with ``{z}``.
        infer: the context is inferred together with the classes, or alone.
        tau: temperature of the inference; a higher one leaves more contexts open.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    contexts: tuple[tuple[str, ...], ...] = Field(default=(COLOURS,), min_length=1)
    form: str = "{y} on a {z} background"
    pure: str = "a {z} background"
    infer: Literal["with classes", "alone"] = "with classes"
    tau: float = Field(default=1.0, gt=0.0)


def perceptionclip(
    shots: Shots,
    *,
    contexts: tuple[tuple[str, ...], ...] = (COLOURS,),
    form: str = "{y} on a {z} background",
    pure: str = "a {z} background",
    infer: Literal["with classes", "alone"] = "with classes",
    tau: float = 1.0,
) -> Rule:
    """The rule with the texts' rows; see the module.

    Raises:
        UsageError: a form lacks its places, an attribute has no value, or two contexts are the same.
    """
    if "{y}" not in form or "{z}" not in form or "{z}" not in pure:
        raise UsageError(f"forms {form!r} and {pure!r}", "a place is missing", "Write {y} and {z} in form, and {z} in pure")
    names = [", ".join(values) for values in itertools.product(*contexts)]
    if not names or len(set(names)) < len(names):
        raise UsageError("contexts", f"{len(names)} combinations, {len(set(names))} different", "Give every attribute values of its own")
    both = [form.replace("{y}", y).replace("{z}", z) for y in shots.classes for z in names]
    both_KZD = _rows(shots, both).unflatten(0, (len(shots.classes), len(names)))
    pure_ZD = _rows(shots, [pure.replace("{z}", z) for z in names])
    options = {"scale": shots.scale, "infer": infer, "tau": tau}
    config = RuleConfig(method=CARD.id, classes=shots.classes, options=options, reads="rows")
    return Rule.of(config, both=both_KZD, pure=pure_ZD)


def _rows(shots: Shots, names: list[str]) -> Tensor:
    """Unit rows of ``names``, each the mean over the templates."""
    texts = [template.replace("{}", name) for name in names for template in shots.templates]
    return F.normalize(shots.texts(texts).double().unflatten(0, (len(names), -1)).mean(1), dim=1).float()


def answer(model: DualEncoder, labels: tuple[str, ...], numbers: dict[str, Tensor], **options: Any) -> Answer:
    """Log probabilities of the classes; see the module."""
    both_KZD, pure_ZD, scale, tau = numbers["both"].double(), numbers["pure"].double(), options["scale"], options["tau"]

    def logits(image_BD: Tensor) -> Tensor:
        f_BKZ = scale * torch.einsum("bd,kzd->bkz", image_BD.to(both_KZD), both_KZD)
        seen_BZ = (f_BKZ / tau).logsumexp(1) if options["infer"] == "with classes" else scale * image_BD.to(pure_ZD) @ pure_ZD.T / tau
        return (f_BKZ.log_softmax(1) + seen_BZ.log_softmax(1)[:, None]).logsumexp(2).float()

    return Answer(logits)
