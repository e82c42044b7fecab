"""Towers that share attention and MLPs, against separate towers of the same sizes: zero-shot accuracy, modality gap, parameters.

Paper: zero-shot ImageNet up to 13 % relative above CLIP on YFCC-100M with fewer parameters (MS-CLIP-S), and closer modalities.

Both towers are trained from nothing here, since neither side of a shared tower can be frozen or taken from another model. ``study/train``
has few concepts and every pair of one concept is a positive, so that the runs leave the ln(batch) plateau within the budget; the records
say how far they came.
"""

from __future__ import annotations

from typing import Any

from common import Claim, Values, main
from measures import modality_gap, together, zero_shot
from starts import frozen

from diptych.engine.run import InitConfig, OptimConfig
from diptych.towers.base import count_parameters

START = "both towers from nothing"


def parameters(model: Any) -> dict[str, Values]:
    """Parameters of the whole model, in thousands, shared ones once."""
    return {"k parameters": Values.of(count_parameters(model) / 1000)}


def arm(preset: str) -> Any:
    """Equal steps, equal rates; only the towers differ."""
    run = frozen("study-vit", steps=500, batch=128)
    return run.model_copy(update={"init": InitConfig(preset=preset), "optim": OptimConfig(lr=1e-3, warmup=0.05)})


def claim(method: str, note: str, names: tuple[str, str]) -> Claim:
    """One form against separate towers."""
    return Claim(
        id="ms-clip",
        baseline=arm("study-pair"),
        method=arm(method),
        measure=together(zero_shot, modality_gap, parameters),
        primary="zero-shot top-1",
        start=START,
        lower=frozenset({"modality gap", "k parameters"}),
        note=note,
        names=names,
    )


CLAIMS = (
    claim("study-ms-clip", "Attention and MLP of all four blocks shared; embeddings, norms and projections apart.", ("separate", "shared")),
    claim(
        "study-ms-clip-s",
        "MS-CLIP-S: first layer of each side its own, convolutional branch beside the image tower.",
        ("separate", "specialised"),
    ),
)

if __name__ == "__main__":
    main(*CLAIMS)
