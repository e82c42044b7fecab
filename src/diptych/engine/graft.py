"""One side of another model on a preset: a frozen sentence encoder as text, or an image tower trained at another size."""

from __future__ import annotations

from typing import Any

import torch

from diptych.core.errors import UsageError
from diptych.engine.run import InitConfig


def graft(config: Any, init: InitConfig, seed: int) -> Any:
    """A dual encoder of ``config`` with the sides that ``init.image_from`` and ``init.text_from`` name.

    Raises:
        UsageError: the image tower's settings or the joint widths differ.
    """
    from diptych.towers.dual import DualConfig, DualEncoder
    from diptych.towers.formats.load import load

    text = load(init.text_from) if init.text_from else None
    image = load(init.image_from) if init.image_from else None
    taken: dict[str, Any] = {}
    if text is not None:
        taken |= {"text": text.config.text, "text_projection": text.config.text_projection, "embed_dim": text.embed_dim}
        taken |= {"tokenizer": text.config.tokenizer}
    if image is not None:
        taken |= {"image_projection": image.config.image_projection}
        _check_image(config, image, taken.get("embed_dim", config.embed_dim), str(init.image_from))
    model = DualEncoder(DualConfig.model_validate({**dict(config), **taken}), text.tokenizer if text else None, seed=seed)
    if text is not None:
        model.text.load_state_dict(text.text.state_dict())
        model.text_projection.load_state_dict(text.text_projection.state_dict())
    if image is not None:
        model.image.load_state_dict(_at_size(image.image, model.image))
        model.image_projection.load_state_dict(image.image_projection.state_dict())
        model.log_scale.data.copy_(image.log_scale.detach())
    return model


def _check_image(config: Any, donor: Any, embed_dim: int, name: str) -> None:
    """The donor's tower is the preset's, at any size, and meets the text in the same width."""
    ours, theirs = (dict(c.image.model_dump(), image_size=None) for c in (config, donor.config))
    differ = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    if differ:
        why = f"{', '.join(differ)}: the preset has {[ours.get(k) for k in differ]}, {name} has {[theirs.get(k) for k in differ]}"
        raise UsageError("init.image_from", why, "Use the preset it was trained with")
    if donor.embed_dim != embed_dim:
        raise UsageError("init.image_from", f"it maps to {donor.embed_dim} dimensions, the text side to {embed_dim}", "Use one width")


def _at_size(donor: torch.nn.Module, tower: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The donor's weights with its learned positions resampled to the tower's grid."""
    from diptych.towers.vision import resize_positions

    state = donor.state_dict()
    here: Any = tower.config
    there: Any = donor.config
    if "position" in state and there.image_size != here.image_size:
        state["position"] = resize_positions(state["position"], there.grid, here.grid)
    return state
