"""VI-SimSiam: features of the tower against those before training; does the uncertainty rise where a drawing is blurred or covered, and
does it go with wrong answers? Baseline: tower and heads before their first step, whose uncertainty knows nothing.

Paper: qualitative; figures of pictures with low and high κ, and accuracy falling with uncertainty.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import Values, main
from measures import samples_of
from pictures import UNTRAINED, against_untrained, alone, frozen_rows, regression, subgroups, trained_or_not
from torch import Tensor
from torch.nn import functional as F

from diptych.engine.checkpoint import Checkpoints
from diptych.engine.objective import build_objective
from diptych.engine.run import Run
from diptych.objectives.views.vi_simsiam import Method
from diptych.towers.encode import evaluating, pixels

HEADS: dict[int, Method] = {}
"""The heads of a trained model, by the model's ``id``."""
BLURRED, COVERED, TELLS = "share less certain when blurred", "share less certain when covered", "certainty tells right from wrong (AUROC)"


def with_heads(run: Run, folder: Path, progress: bool) -> Any:
    """The model as :func:`trained_or_not` gives it; its heads come from the last checkpoint, if it is trained."""
    model = trained_or_not(run, folder, progress)
    method = build_objective(run, model, torch.device("cpu")).method
    saved = Checkpoints(folder / "checkpoints", 1).load()
    if saved is not None and not run.name.endswith(UNTRAINED):
        method.load_state_dict(saved.tensors["objective"])
    HEADS[id(model)] = method
    return model


def blurred(image_BCHW: Tensor) -> Tensor:
    """Every fourth pixel both ways, spread smoothly: uint8."""
    small = F.avg_pool2d(image_BCHW.float(), 4)
    return F.interpolate(small, scale_factor=4, mode="bilinear").round().to(torch.uint8)


def covered(image_BCHW: Tensor) -> Tensor:
    """The right half grey: uint8."""
    out = image_BCHW.clone()
    out[..., out.shape[-1] // 2 :] = 128
    return out


def auroc(score_N: Tensor, right_N: Tensor) -> float:
    """Share of pairs of a right and a wrong answer in which the right one has the higher score; half for equal scores."""
    right, wrong = score_N[right_N], score_N[~right_N]
    above = (right[:, None] > wrong[None, :]).double() + 0.5 * (right[:, None] == wrong[None, :]).double()
    return float(above.mean()) if above.numel() else 0.5


@torch.no_grad()
def uncertainty(model: Any) -> dict[str, Values]:
    """Features as for the other objectives; concentrations of drawings of unseen styles, plain, blurred and covered.

    A batch norm takes its statistics from all three kinds together.
    """
    known, asked = samples_of("study/train")[0], samples_of("study/zero-shot")[0]
    pictures = [torch.stack([pixels(sample, model.config.preprocess) for sample in part]) for part in (known, asked)]
    with evaluating(model):

        def rows(image_NCHW: Tensor) -> Tensor:
            return torch.cat([model.image(model.normalise(part))[0].float() for part in image_NCHW.split(256)])

        known_KW, asked_NW = (rows(part) for part in pictures)
        kinds_MW = torch.cat([asked_NW, rows(blurred(pictures[1])), rows(covered(pictures[1]))])
    plain_N, blurred_N, covered_N = HEADS[id(model)].concentration(kinds_MW).chunk(3)
    number_K, number_N, concept_N = subgroups()
    right_N = regression(known_KW, asked_NW, number_K).argmax(1) == number_N
    return {
        **frozen_rows(model),
        BLURRED: Values.of((blurred_N < plain_N).double(), concept_N),
        COVERED: Values.of((covered_N < plain_N).double(), concept_N),
        TELLS: Values.of(auroc(plain_N, right_N)),
    }


CLAIM = replace(
    against_untrained(
        "vi-simsiam",
        alone("vi-simsiam"),
        "κ is the concentration of the predicted power spherical distribution; less certain: a smaller κ.",
        BLURRED,
        uncertainty,
    ),
    train=with_heads,
)

if __name__ == "__main__":
    main(CLAIM)
