"""GenHancer: a small denoiser that sees only the tower's global row teaches the tower what its row leaves out.

Paper: Ma et al., "GenHancer: Imperfect Generative Models are Secretly Strong Vision-Centric Enhancers", arXiv:2503.19480, section 4: the
class token alone as condition, two stages, a lightweight denoiser, rectified flow with scaled logit-normal times (the continuous form).
Code: https://github.com/mashijie1028/GenHancer
Relations: ``un2clip`` conditions on the embedding in the joint space and predicts the noise of a diffusion; the rest is shared
(``parts/denoiser.py``). No text takes part.

Shapes: B rows, C channels, H height, W width, V the tower's width.

With pictures x (−1…1), noise e ~ N(0, I), times t = sigmoid(spread * n), n ~ N(0, 1), and global rows c = tower(x)::

    for i in rows:
        noisy = (1 - t[i]) * x[i] + t[i] * e[i]
        loss += mean((denoiser(noisy, t[i], projector(c[i])) - (e[i] - x[i])) ** 2)
    loss /= B

In the first ``first`` share of the budget denoiser and projector learn and the tower stands still; then the denoiser is frozen, and
projector and tower learn. ``end_to_end`` trains all three from the start, which the paper finds worse. The paper tunes the tower by low-
rank updates; here its weights themselves are tuned, so keep ``optim.lr`` low.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from diptych.core.card import Card
from diptych.core.types import Loss, Pairs
from diptych.objectives.parts.denoiser import Denoiser, frozen_call, squared_error
from diptych.towers.base import ImageTower
from diptych.towers.see import See

CARD = Card(
    id="genhancer",
    name="GenHancer",
    family="objective",
    paper="GenHancer: Imperfect Generative Models are Secretly Strong Vision-Centric Enhancers, arXiv:2503.19480",
    where="sections 4.2 to 4.4: class token, two stages, continuous denoiser",
    code="https://github.com/mashijie1028/GenHancer",
    claim="sees details that CLIP overlooks, by a lightweight denoiser conditioned on the global token alone, in two stages",
    published="MMVP-VLM 31.9 against 25.9 for DIVA and 19.3 for OpenAI's CLIP itself (ViT-L/14 at 224 px, table 1)",
)
USES = frozenset()


class Options(BaseModel):
    """Settings of :class:`Method`.

    Args:
        first: share of the budget in which the denoiser learns and the tower does not.
        end_to_end: everything learns all the time; ``first`` then has no meaning and must be 0.
        spread: standard deviation of the times before the sigmoid.
        width, depth: of the denoiser.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    first: float = Field(default=0.6, ge=0.0, lt=1.0)
    end_to_end: bool = False
    spread: float = Field(default=1.0, gt=0.0)
    width: int = Field(default=96, ge=32, multiple_of=32)
    depth: int = Field(default=2, ge=1)

    @model_validator(mode="after")
    def _one(self) -> Options:
        if self.end_to_end and self.first:
            raise ValueError("end_to_end has no first stage; set first to 0")
        return self


def chance(batch: int) -> float | None:
    """None: it depends on the pictures."""
    return None


def genhancer(pairs: Pairs) -> Loss:
    """The loss of this rank's rows.

    Args:
        pairs: ``taps`` prediction, clean and noise, (B, C, H, W) each.
    """
    taps = pairs.taps
    error = squared_error(taps["prediction"], taps["noise"] - taps["clean"])
    return Loss(error, {"denoising": error})


class Method(nn.Module):
    """The denoiser and its projector."""

    def __init__(self, model: nn.Module, options: Options) -> None:
        super().__init__()
        self.options = options
        tower: ImageTower = model.image  # type: ignore[assignment]
        self.projector = nn.Sequential(nn.LayerNorm(tower.width), nn.Linear(tower.width, options.width))
        self.denoiser = Denoiser(tower.image_size, options.width, options.width, options.depth)

    def rows(self, see: See) -> dict[str, Tensor]:
        """Noisy pictures and what the denoiser makes of them."""
        clean_BCHW = see.image_BCHW.float() / 127.5 - 1.0
        noise_BCHW = torch.randn(clean_BCHW.shape, generator=see.draw, device=clean_BCHW.device)
        normal_B = torch.randn(len(clean_BCHW), generator=see.draw, device=clean_BCHW.device)
        time_B = torch.sigmoid(self.options.spread * normal_B)
        at_B111 = time_B[:, None, None, None]
        noisy_BCHW = (1 - at_B111) * clean_BCHW + at_B111 * noise_BCHW

        def condition() -> Tensor:
            return self.projector(see.model.image(see.model.normalise(see.image_BCHW))[0])

        if self.options.end_to_end:
            prediction_BCHW = self.denoiser(noisy_BCHW, time_B, condition())
        elif see.progress < self.options.first:
            with torch.no_grad():
                pooled_BV = see.model.image(see.model.normalise(see.image_BCHW))[0]
            prediction_BCHW = self.denoiser(noisy_BCHW, time_B, self.projector(pooled_BV))
        else:
            prediction_BCHW = frozen_call(self.denoiser, noisy_BCHW, time_B, condition())
        return {"prediction": prediction_BCHW, "clean": clean_BCHW, "noise": noise_BCHW}

    def forward(self, pairs: Pairs) -> Loss:
        return genhancer(pairs)
