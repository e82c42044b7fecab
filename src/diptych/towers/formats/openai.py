"""OpenAI's state-dict naming: one safetensors file without a config, whose shapes tell the sizes.

What the shapes do not tell is fixed there: QuickGELU, 64 channels a head, the end token's row, CLIP's byte pairs and preprocessing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.core.errors import DiptychError
from diptych.core.types import Preprocess
from diptych.data.tokenizers import Tokenizer
from diptych.towers.dual import DualConfig, DualEncoder
from diptych.towers.formats.open_clip import CLIP_VOCAB, import_state, rules
from diptych.towers.formats.refuse import Refusal, expect, make_config, towers_of
from diptych.towers.formats.rules import write
from diptych.towers.formats.weights import read_tensors, write_folder, write_tensors
from diptych.towers.presets import CLIP_MEAN, CLIP_STD
from diptych.towers.projection import ProjectionConfig
from diptych.towers.text import TransformerConfig
from diptych.towers.vision import ViTConfig

HEAD = 64
NUMBERS = ("input_resolution", "context_length", "vocab_size")
NAMES = (
    "visual.conv1.weight",
    "visual.positional_embedding",
    "visual.proj",
    "token_embedding.weight",
    "positional_embedding",
    "logit_scale",
)


def _depth(tensors: dict[str, Tensor], prefix: str) -> int:
    pattern = re.compile(re.escape(prefix) + r"resblocks\.(\d+)\.")
    return 1 + max((int(found[1]) for name in tensors if (found := pattern.match(name))), default=-1)


def config_of(tensors: dict[str, Tensor], name: str) -> DualConfig:
    """The config that the shapes of an OpenAI state dict imply. Raises :class:`DiptychError` for anything but its vision transformers."""
    what = f"weights of {name}"
    if missing := [key for key in NAMES if key not in tensors]:
        why = f"no {missing[0]}, so they are not a vision-transformer CLIP in OpenAI's naming"
        raise DiptychError(what, why, "Put the model's JSON config beside the file")
    kernel, position = tensors["visual.conv1.weight"], tensors["visual.positional_embedding"]
    expect(kernel.ndim, (4,), "rank of visual.conv1.weight", what)
    side = round((len(position) - 1) ** 0.5)
    expect(side * side, (len(position) - 1,), "patches of visual.positional_embedding, as a square", what, "its rows")
    size = (side * kernel.shape[-1],) * 2
    vocab, width = tensors["token_embedding.weight"].shape
    for key, value in zip(NUMBERS, (size[0], len(tensors["positional_embedding"]), vocab), strict=True):
        if key in tensors:
            expect(int(tensors[key]), (value,), key, what, "the shapes of the weights")
    for key, wide in (("visual.conv1.weight", len(kernel)), ("token_embedding.weight", width)):
        expect(wide % HEAD, (0,), f"width {wide} of {key} modulo {HEAD}", what, "OpenAI's heads")
    see: dict[str, Any] = {"width": len(kernel), "heads": len(kernel) // HEAD, "mlp": 4 * len(kernel)}
    see["depth"] = _depth(tensors, "visual.transformer.")
    say: dict[str, Any] = {"width": width, "heads": width // HEAD, "mlp": 4 * width, "depth": _depth(tensors, "transformer.")}
    return make_config(
        DualConfig,
        what,
        name=name,
        image=make_config(ViTConfig, what, image_size=size, patch=kernel.shape[-1], activation="quick_gelu", **see),
        text=make_config(
            TransformerConfig, what, vocab=vocab, context=len(tensors["positional_embedding"]), activation="quick_gelu", **say
        ),
        embed_dim=tensors["visual.proj"].shape[1],
        preprocess=Preprocess(size, CLIP_MEAN, CLIP_STD, fill=(0, 0, 0)),
    )


def load_openai(path: str | Path) -> DualEncoder:
    """A CLIP from one ``.safetensors`` file in OpenAI's naming; without a tokenizer where the vocabulary is not CLIP's."""
    path = Path(path)
    tensors = read_tensors(path)
    config = config_of(tensors, path.stem)
    tokenizer = Tokenizer.clip(config.text.context) if config.text.vocab == CLIP_VOCAB else None  # type: ignore[attr-defined]
    return import_state(config, tokenizer, {key: value for key, value in tensors.items() if key not in NUMBERS}, f"model {path}")


def save_openai(model: DualEncoder, folder: str | Path) -> Path:
    """Write ``clip.safetensors`` in OpenAI's naming. Raises :class:`DiptychError` where its fixed settings compute something else."""
    folder = Path(folder)
    what = f"exporting {model.config.name!r} to OpenAI's naming"
    image, text = towers_of(model, what)
    need = Refusal(what, "OpenAI's CLIP").need
    for side, config in (("image", image), ("text", text)):
        need(f"the {side} tower's activation", config.activation, "quick_gelu")
        need(f"channels a head of the {side} tower", config.width // config.heads, HEAD)
        need(f"mlp of the {side} tower", config.mlp, 4 * config.width)
        need(f"norm_eps of the {side} tower", config.norm_eps, 1e-5)
        need(f"layer_scale of the {side} tower", config.layer_scale, None)
    need("the image tower's pooling", image.pool, "class")
    need("norm_pre", image.norm_pre, True)
    need("patch_bias", image.patch_bias, False)
    need("registers", image.registers, 0)
    need("square pictures of whole patches", image.image_size, (image.grid[0] * image.patch,) * 2)
    need("causal", text.causal, True)
    need("the text tower's pooling", text.pool, "argmax")
    for side, projection in (("image", model.config.image_projection), ("text", model.config.text_projection)):
        need(f"the {side} projection", projection, ProjectionConfig())
    need("a bias of the logits", model.bias is not None, False)
    fixed = (CLIP_MEAN, CLIP_STD, "bicubic")
    need("preprocessing", (model.config.preprocess.mean, model.config.preprocess.std, model.config.preprocess.interpolation), fixed)
    need("preprocess.resize", model.config.preprocess.resize, "crop", "crop-floor")
    if model.tokenizer is not None:
        need("the tokenizer", model.tokenizer.config, Tokenizer.clip(text.context).config)
    tensors = write(rules(model, False, what), model.state_dict(), what)
    write_folder(folder, lambda target: write_tensors(target / "clip.safetensors", tensors), owned="clip.safetensors")
    return folder
