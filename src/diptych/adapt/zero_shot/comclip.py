"""ComCLIP: the picture's row is shifted towards the parts of it that a caption's words speak of. Nothing is learned.

Paper: Jiang et al., "ComCLIP: Training-Free Compositional Image and Text Matching", NAACL 2024, arXiv:2211.13854 (sub-images of
subject, object and action; their weights; the composed row). The equations here are those of the authors' code for Winoground.
Code: https://github.com/eric-ai-lab/ComCLIP
Relations: plain cosine between picture and caption is this without sub-images; region protocols score boxes that are given.

Shapes: B pictures, K captions, W windows, H height, V width of a picture, D joint width.

::

    window_rows[w] = row(picture with all outside window w painted over)         # rectangles of grid x grid cells, but the whole
    for each caption k, cut into phrases e and the words between the first two, r:
        box[e] = argmax over w of window_rows[w] · text(e)                       # the sub-image of a thing
        part[e] = window_rows[box[e]];   part[r] = row(picture with all outside every box[e] painted over)
        worth[i] = max(0, part[i] · text(i)) / sum over j of the same            # "softmax": softmax of scale * part[i] · text(i)
        composed = unit(row(picture) + sum(worth[i] * part[i]))
        logits[b, k] = scale * composed · text(k)

The paper finds the things with a dense captioner and matches captions and boxes with a language model; it parses captions with one, too.
Neither is at hand here: windows are cells of a grid and what they form together, a thing's is the one most like its phrase, and phrases are
the runs of words between function words ("a red apple to the left of a bus": "red apple", "bus", and "to the left of"). So a verb stays in
the phrase before it. Worth is what the authors' code computes, which has no rule for negative similarities: here one counts nothing, and
all count alike where none is positive. Where a thing is not found, the code takes the whole picture, which is a window here. Outside is
black as there, or the colour that the model pads with; ``"crop"`` enlarges the window instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.captioned import phrases
from diptych.adapt.parts.shots import Shots
from diptych.adapt.parts.windows import Painter, windows
from diptych.core.card import Card
from diptych.towers.rule import Answer, Rule, RuleConfig

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder

CARD = Card(
    id="comclip",
    name="ComCLIP",
    family="adapt",
    paper="ComCLIP: Training-Free Compositional Image and Text Matching, arXiv:2211.13854",
    where="the sub-images, their weights and the composed row",
    code="https://github.com/eric-ai-lab/ComCLIP",
    claim="matches pictures and captions of several things better than the plain cosine, with no training",
    published="better than CLIP, SLIP and BLIP2 on Winoground, VL-checklist, SVO and ComVG (abstract)",
)
GRID = {}


class Options(BaseModel):
    """Settings of :func:`comclip`.

    Args:
        grid: cells a side; windows are the rectangles of cells, 8 for 2 and 35 for 3. An answer encodes so many pictures more.
        outside: what is painted over the rest: ``"black"``, the colour the model ``"pad"``\\ s with; or ``"crop"``, the window alone.
        worth: ``"share"`` of the similarities, or their ``"softmax"``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    grid: int = Field(default=2, ge=2, le=4)
    outside: Literal["black", "pad", "crop"] = "black"
    worth: Literal["share", "softmax"] = "share"


def comclip(
    shots: Shots, *, grid: int = 2, outside: Literal["black", "pad", "crop"] = "black", worth: Literal["share", "softmax"] = "share"
) -> Rule:
    """The rule; it holds no numbers and answers for any captions. See the module."""
    options = {"scale": shots.scale, "grid": grid, "outside": outside, "worth": worth}
    return Rule.of(RuleConfig(method=CARD.id, options=options, reads="pixels"))


def answer(model: DualEncoder, labels: tuple[str, ...], numbers: dict[str, Tensor], **options: Any) -> Answer:
    """Similarities of captions and composed rows; see the module."""
    paint = Painter(model, options["outside"])
    cut = [phrases(label) for label in labels]
    texts = list(dict.fromkeys([*labels, *(phrase for some, relation in cut for phrase in (*some, *([relation] if relation else ())))]))
    row_of = dict(zip(texts, model.encode_text(texts).to(model.device), strict=True))

    @torch.no_grad()
    def logits(pixels_BCHV: Tensor) -> Tensor:
        count = len(pixels_BCHV)
        mask_WHV = windows(options["grid"], *pixels_BCHV.shape[-2:]).to(pixels_BCHV.device)
        whole_BD = model.image_features(pixels_BCHV).float()
        window_BWD = paint(pixels_BCHV.repeat_interleave(len(mask_WHV), 0), mask_WHV.repeat(count, 1, 1)).unflatten(0, (count, -1))
        found = []
        for label, (some, relation) in zip(labels, cut, strict=True):
            text_ED = torch.stack([row_of[phrase] for phrase in some])
            alike_BE, box_BE = (window_BWD @ text_ED.T).max(1)
            part_BED = window_BWD.gather(1, box_BE[..., None].expand(-1, -1, window_BWD.shape[2]))
            if relation:
                joint_BD = paint(pixels_BCHV, mask_WHV[box_BE].any(1))
                part_BED = torch.cat([part_BED, joint_BD[:, None]], 1)
                alike_BE = torch.cat([alike_BE, joint_BD @ row_of[relation][:, None]], 1)
            found.append(composed(whole_BD, part_BED, worth(alike_BE, options)) @ row_of[label])
        return options["scale"] * torch.stack(found, 1)

    return Answer(logits)


def worth(alike_BE: Tensor, options: dict[str, Any]) -> Tensor:
    """Weights (B, E) of the parts; they sum to 1."""
    if options["worth"] == "softmax":
        return (options["scale"] * alike_BE).softmax(1)
    positive_BE = alike_BE.clamp(min=0)
    total_B1 = positive_BE.sum(1, keepdim=True)
    return torch.where(total_B1 > 0, positive_BE / total_B1.clamp(min=1e-12), torch.full_like(alike_BE, 1 / alike_BE.shape[1]))


def composed(whole_BD: Tensor, part_BED: Tensor, worth_BE: Tensor) -> Tensor:
    """Unit rows (B, D): the whole picture's and its parts' by their worth."""
    return F.normalize(whole_BD + (worth_BE[..., None] * part_BED).sum(1), dim=1)
