"""A-CLIP at half the tokens: against a random half, and in its efficient form against CLIP on all patches; then its multi-view form.

Paper: ImageNet zero-shot 39.5 with an attentive half, 35.0 with a random half, 37.6 with all; the efficient form with both auxiliary losses
42.9 at 0.86 of CLIP's time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from common import Claim, Values, main
from measures import retrieval, samples_of, texts, together, zero_shot
from starts import FROZEN, SEEING, cropped, frozen, seeing
from told import Cluttered, Placed, held

from diptych.engine.run import ObjectiveConfig, Run, TokensConfig

MEASURE = together(zero_shot, retrieval)
SHARE = 0.625  # of the side: 20 of 32 pixels, so that a drawing touches 25 to 36 of the 64 patches
GROUND = "Each drawing fills 0.625 of the picture's side, at a random place on a plain ground; asked of pictures made the same way."


def placed(model: Any, kind: Any = Placed) -> dict[str, Values]:
    """Hits at 1 and 5 of drawings in unseen styles on a larger ground; concepts are resampled."""
    samples, classes = held(kind, "study/zero-shot", SHARE), samples_of("study/zero-shot")[1]
    target_N = torch.tensor([sample.label for sample in samples])
    hit_N5 = (model.encode_image(list(samples)) @ texts(model, list(classes)).T).topk(5).indices == target_N[:, None]
    return {
        "zero-shot top-1": Values.of(hit_N5[:, 0].double(), target_N),
        "zero-shot top-5": Values.of(hit_N5.any(1).double(), target_N),
    }


def on_clutter(model: Any) -> dict[str, Values]:
    """The same where the ground is a patchwork of other drawings of unseen styles."""
    return placed(model, Cluttered)


def vit(tokens: TokensConfig | None = None, objective: str = "clip") -> Run:
    """An arm on the study's ViT, from a tower that sees."""
    return seeing("study-vit", objective=ObjectiveConfig(name=objective), tokens=tokens)


def attentive(resolution: float) -> TokensConfig:
    """Half of the patches by attention."""
    return TokensConfig(name="a-clip", options={"ratio": 0.5, "resolution": resolution})


def claim(baseline: Run, method: Run, names: tuple[str, str], note: str, **more: Any) -> Claim:
    """Two arms with what is common."""
    common: dict[str, Any] = {"id": "a-clip", "measure": MEASURE, "primary": "zero-shot top-1", "start": SEEING}
    return Claim(baseline=baseline, method=method, names=names, note=note, **{**common, **more})


RANDOM = TokensConfig(name="random-mask", options={"ratio": 0.5})

ARMS = {"all": None, "random": RANDOM, "attentive": attentive(1.0), "efficient": attentive(0.5)}


def whole_at_the_end(run: Run) -> Run:
    """A run whose last two fifths read all patches."""
    return run if run.tokens is None else run.model_copy(update={"tokens": run.tokens.model_copy(update={"until": 0.6})})


def asked(arms: Mapping[str, Run], told: str, whole: str, half: str, **own: Any) -> list[Claim]:
    """The three questions of one setting; ``whole`` and ``half`` are what the names of arms with all and with half the patches end on."""
    efficient = f"{told} Holds where accuracy is not a point lower; the cost is to be at most 0.9."
    everything, chance = f"all patches{whole}", f"a random half{half}"
    return [
        claim(arms["random"], arms["attentive"], (chance, f"an attentive half{half}"), told, **own),
        claim(arms["all"], arms["efficient"], (everything, f"an attentive half, efficient{half}"), efficient, aim=-0.01, **own),
        claim(arms["all"], arms["random"], (everything, chance), told, **own),
    ]


def on_a_ground() -> list[Claim]:
    """The same questions where most of a picture is ground, of which no caption speaks: what an attentive mask is made for."""
    own: dict[str, Any] = {"measure": placed, "dataset": lambda name: Placed("study/train", SHARE)}
    return asked({name: vit(tokens) for name, tokens in ARMS.items()}, GROUND, ", on a ground", ", on a ground", **own)


def only_cropped() -> list[Claim]:
    """The same questions with crops alone, the paper's augmentation of CLIP, under which these towers learn more in as many steps."""
    told = "Pictures are only cropped, to at least half of them, as in the paper."
    return asked({name: cropped(vit(tokens), 0.5) for name, tokens in ARMS.items()}, told, ", only cropped", ", only cropped")


def ending_whole() -> list[Claim]:
    """Crops alone, ending on whole pictures: after attentive halves alone a tower names 0.20 of whole drawings and 0.22 of its halves."""
    told = "Pictures are only cropped; from 0.6 of the steps on both arms read all patches (FLIP's unmasked tuning)."
    arms = {name: whole_at_the_end(cropped(vit(tokens), 0.5)) for name, tokens in ARMS.items()}
    return asked(arms, told, ", only cropped", ", then all")


def cluttered() -> list[Claim]:
    """On a ground of which no caption speaks and that is not empty: pieces of other drawings."""
    told = (
        "Each drawing fills 0.625 of the picture's side, at a random place on a patchwork of pieces of other drawings; asked of such "
        "pictures, which the start saw too. Pictures are only cropped, to at least 0.9; from 0.6 of the steps on both arms read all "
        "patches (FLIP's unmasked tuning)."
    )
    ground = Cluttered("study/train", SHARE)
    base = cropped(seeing(on=ground, area=0.9, objective=ObjectiveConfig(name="clip")), 0.9)
    halves = [whole_at_the_end(base.model_copy(update={"tokens": tokens})) for tokens in (RANDOM, attentive(1.0))]
    names = ("a random half, then all, on clutter", "an attentive half, then all, on clutter")
    return [claim(*halves, names, told, measure=on_clutter, dataset=lambda name: ground)]


def claims() -> list[Claim]:
    """The claims; the start is trained here where it is not there yet."""
    return [
        claim(
            vit(RANDOM),
            vit(attentive(1.0)),
            ("a random half", "an attentive half"),
            "Equal tokens: the EMA tower's attention chooses, or chance.",
        ),
        claim(
            vit(),
            vit(attentive(0.5)),
            ("all patches", "an attentive half, efficient"),
            "The EMA tower scores pictures of half the side. Holds where accuracy is not a point lower; the cost is to be at most 0.9.",
            aim=-0.01,
        ),
        claim(
            vit(),
            vit(attentive(0.5), "a-clip"),
            ("all patches", "two attentive halves with both auxiliary losses"),
            "Two views of half the patches each, view to view and online to EMA; equal steps.",
        ),
        claim(vit(), vit(RANDOM), ("all patches", "a random half"), "What removing half at random costs from this start."),
        claim(
            frozen("study-vit", tokens=RANDOM),
            frozen("study-vit", tokens=attentive(1.0)),
            ("a random half", "an attentive half"),
            "From nothing: after 300 steps this ViT names 6 % of what it sees; its attention does not yet know what matters.",
            start=FROZEN,
        ),
    ]


if __name__ == "__main__":
    main(*claims(), *on_a_ground(), *only_cropped(), *ending_whole(), *cluttered())
