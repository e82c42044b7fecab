"""un²CLIP: a denoiser that makes pictures from CLIP embeddings is frozen, and its loss tunes the image tower that gives the embeddings.

Paper: Li et al., "un²CLIP: Improving CLIP's Visual Detail Capturing Ability via Inverting unCLIP", arXiv:2505.24517, section 3. The
generator of unCLIP (Ramesh et al., arXiv:2204.06125, section 2.1) learns p(picture | embedding); un²CLIP turns it round: the generator
stays, the tower moves, and since the generator knows only the embeddings that texts were aligned with, the tower stays near them.
Code: https://github.com/LiYinqi/un2CLIP
Relations: ``genhancer`` conditions on the tower's own row, lets a projector follow, and uses a rectified flow; the rest is shared
(``parts/denoiser.py``). No text takes part.

Shapes: B rows, C channels, H height, W width, D joint width.

With pictures x (−1…1), noise e ~ N(0, I), times t ~ U(0, 1), a(t) = cos²(π t / 2) and unit rows c = embed(x)::

    for i in rows:
        noisy = sqrt(a(t[i])) * x[i] + sqrt(1 - a(t[i])) * e[i]
        loss += mean((denoiser(noisy, t[i], c[i]) - e[i]) ** 2)
    loss /= B

In the first ``first`` share of the budget the denoiser learns and the tower and its projection stand still (the paper takes a trained
unCLIP for this); then the denoiser is frozen and they learn. The schedule a(t) is Nichol & Dhariwal's cosine (arXiv:2102.09672, equation
17, without its offset).
"""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from diptych.core.card import Card
from diptych.core.types import Loss, Pairs
from diptych.objectives.parts.denoiser import Denoiser, frozen_call, squared_error
from diptych.towers.see import See

CARD = Card(
    id="un2clip",
    name="un²CLIP",
    family="objective",
    paper="un²CLIP: Improving CLIP's Visual Detail Capturing Ability via Inverting unCLIP, arXiv:2505.24517",
    where="section 3",
    code="https://github.com/LiYinqi/un2CLIP",
    claim="captures more detail than CLIP and stays aligned with texts, trained on pictures alone",
    published="better than CLIP and earlier improvements on MMVP-VLM, open-vocabulary segmentation and multimodal tasks (abstract)",
)
USES = frozenset()


class Options(BaseModel):
    """Settings of :class:`Method`.

    Args:
        first: share of the budget in which the denoiser learns and the tower does not.
        width, depth: of the denoiser.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    first: float = Field(default=0.6, ge=0.0, lt=1.0)
    width: int = Field(default=96, ge=32, multiple_of=32)
    depth: int = Field(default=2, ge=1)


def chance(batch: int) -> float | None:
    """None: it depends on the pictures."""
    return None


def un2clip(pairs: Pairs) -> Loss:
    """The loss of this rank's rows.

    Args:
        pairs: ``taps`` prediction and noise, (B, C, H, W) each.
    """
    taps = pairs.taps
    error = squared_error(taps["prediction"], taps["noise"])
    return Loss(error, {"denoising": error})


class Method(nn.Module):
    """The denoiser."""

    def __init__(self, model: nn.Module, options: Options) -> None:
        super().__init__()
        self.options = options
        size: tuple[int, int] = model.image.image_size  # type: ignore[assignment]
        self.denoiser = Denoiser(size, int(model.embed_dim), options.width, options.depth)  # type: ignore[arg-type]

    def rows(self, see: See) -> dict[str, Tensor]:
        """Noisy pictures and what the denoiser makes of them."""
        clean_BCHW = see.image_BCHW.float() / 127.5 - 1.0
        noise_BCHW = torch.randn(clean_BCHW.shape, generator=see.draw, device=clean_BCHW.device)
        time_B = torch.rand(len(clean_BCHW), generator=see.draw, device=clean_BCHW.device)
        angle_B111 = (time_B * (math.pi / 2))[:, None, None, None]
        noisy_BCHW = angle_B111.cos() * clean_BCHW + angle_B111.sin() * noise_BCHW
        if see.progress < self.options.first:
            with torch.no_grad():
                unit_BD = see.image(see.image_BCHW)
            prediction_BCHW = self.denoiser(noisy_BCHW, time_B, unit_BD)
        else:
            prediction_BCHW = frozen_call(self.denoiser, noisy_BCHW, time_B, see.image(see.image_BCHW))
        return {"prediction": prediction_BCHW, "noise": noise_BCHW}

    def forward(self, pairs: Pairs) -> Loss:
        return un2clip(pairs)
