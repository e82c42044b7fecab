"""The published code of CoOp, from a checkout of https://github.com/KaiyangZhou/CoOp, for a benchmark to run beside ours.

The checkout's prompt learner, text encoder and CLIP are run as they are. What only its training loop and its downloads need (dassl,
torchvision) is stood in for by empty modules, so that the same torch runs both sides.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from diptych.towers.dual import DualEncoder
from diptych.towers.formats.open_clip import rules
from diptych.towers.formats.rules import write

NEEDED = {
    "dassl": (),
    "dassl.engine": ("TrainerX", "TRAINER_REGISTRY"),
    "dassl.metrics": ("compute_accuracy",),
    "dassl.utils": ("load_pretrained_weights", "load_checkpoint"),
    "dassl.optim": ("build_optimizer", "build_lr_scheduler"),
    "torchvision": (),
    "torchvision.transforms": ("Compose", "Resize", "CenterCrop", "ToTensor", "Normalize", "InterpolationMode"),
}


class Registry:
    """Stands in for dassl's: it gives every class back."""

    def register(self) -> Any:
        return lambda kind: kind


def stand_in() -> None:
    """Empty modules for the packages that the model itself never calls."""
    for name, members in NEEDED.items():
        module = ModuleType(name)
        for member in members:
            setattr(
                module, member, Registry() if member == "TRAINER_REGISTRY" else SimpleNamespace(BICUBIC=3) if member[0] == "I" else object
            )
        sys.modules.setdefault(name, module)


def published(folder: Path, model: DualEncoder, names: Sequence[str], context_MW: Tensor) -> tuple[nn.Module, nn.Parameter]:
    """``CustomCLIP`` of the checkout with this model's weights, in float32, and its context: the only part that is trained.

    Raises:
        SystemExit: the folder holds no such checkout.
    """
    if not (folder / "trainers" / "coop.py").is_file():
        raise SystemExit(f"{folder}: no trainers/coop.py in it; give a checkout of https://github.com/KaiyangZhou/CoOp")
    stand_in()
    sys.path.insert(0, str(folder))
    from clip.model import build_model  # type: ignore[import-not-found]
    from trainers.coop import CustomCLIP  # type: ignore[import-not-found]

    state = write(rules(model, False, "the published CoOp"), model.state_dict(), "the published CoOp")
    clip = build_model(dict(state)).float()
    clip.load_state_dict(state)  # again: it went through float16 above
    settings = SimpleNamespace(N_CTX=len(context_MW), CTX_INIT="", CSC=False, CLASS_TOKEN_POSITION="end")
    cfg = SimpleNamespace(TRAINER=SimpleNamespace(COOP=settings), INPUT=SimpleNamespace(SIZE=model.config.preprocess.size))
    made = CustomCLIP(cfg, list(names), clip)
    for name, parameter in made.named_parameters():
        parameter.requires_grad_(name == "prompt_learner.ctx")
    with torch.no_grad():
        made.prompt_learner.ctx.copy_(context_MW)
    return made, made.prompt_learner.ctx
