"""Named sizes: ``preset("vit-b-32")`` is a frozen config; every part of it can be replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diptych.core.errors import UsageError, nearest
from diptych.core.types import Preprocess
from diptych.data.tokenizers import TokenizerConfig
from diptych.towers.bert import BertConfig
from diptych.towers.conv import ConvConfig
from diptych.towers.dual import DualConfig
from diptych.towers.hybrid import HybridConfig
from diptych.towers.layers import Activation
from diptych.towers.mamba_clip import MambaConfig
from diptych.towers.ms_clip import SharedConfig
from diptych.towers.projection import ProjectionConfig
from diptych.towers.residual import Norm
from diptych.towers.specialised import SpecialisedConfig
from diptych.towers.text import TransformerConfig
from diptych.towers.vision import ViTConfig
from diptych.towers.vitamin import vitamin

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)


def _vit(side: int, patch: int, width: int, depth: int, heads: int, activation: Activation = "gelu") -> ViTConfig:
    return ViTConfig(image_size=(side, side), patch=patch, width=width, depth=depth, heads=heads, mlp=4 * width, activation=activation)


def _text(width: int, depth: int, heads: int, context: int = 77, vocab: int = 49408, activation: Activation = "gelu") -> TransformerConfig:
    return TransformerConfig(vocab=vocab, context=context, width=width, depth=depth, heads=heads, mlp=4 * width, activation=activation)


def clip(name: str, image: ViTConfig, text: TransformerConfig, embed_dim: int) -> DualConfig:
    """A CLIP of two transformers (arXiv:2103.00020): linear projections, CLIP's preprocessing and byte pairs."""
    return DualConfig(
        name=name,
        image=image,
        text=text,
        embed_dim=embed_dim,
        preprocess=Preprocess(image.image_size, CLIP_MEAN, CLIP_STD),
        tokenizer=TokenizerConfig(context=text.context, clean="lower", marks={"<start_of_text>": 49406, "<end_of_text>": 49407}),
    )


def siglip(name: str, image: ViTConfig, text: TransformerConfig) -> DualConfig:
    """A SigLIP (arXiv:2303.15343): attention pooling, bidirectional text with the last row, learned bias, no image projection."""
    return DualConfig(
        name=name,
        image=image,
        text=text,
        embed_dim=image.width,
        image_projection=ProjectionConfig(kind="none"),
        text_projection=ProjectionConfig(kind="linear", bias=True),
        preprocess=Preprocess(image.image_size, HALF, HALF, resize="squash"),
        init_scale=10.0,
        init_bias=-10.0,
        tokenizer=None,
    )


def _siglip(name: str, side: int, patch: int, width: int, depth: int, heads: int) -> DualConfig:
    image = ViTConfig(
        image_size=(side, side),
        patch=patch,
        width=width,
        depth=depth,
        heads=heads,
        mlp=4 * width,
        pool="attention",
        class_token=False,
        norm_pre=False,
        patch_bias=True,
        activation="gelu_tanh",
        norm_eps=1e-6,
    )
    text = TransformerConfig(
        vocab=32000,
        context=64,
        width=width,
        depth=depth,
        heads=heads,
        mlp=4 * width,
        causal=False,
        pool="last",
        pad_id=1,
        activation="gelu_tanh",
        norm_eps=1e-6,
    )
    return siglip(name, image, text)


def _tiny() -> DualConfig:
    config = clip("tiny", _vit(32, 8, 32, 2, 2), _text(32, 2, 2, context=16, vocab=512), 32)
    text = config.text.model_copy(update={"pad_id": 258, "pool": "eos", "eos_id": 257})
    return config.model_copy(update={"text": text, "tokenizer": TokenizerConfig(context=16, pad_id=258)})


def _openai(name: str, side: int, patch: int, vision: tuple[int, int, int], text: tuple[int, int, int], embed_dim: int) -> DualConfig:
    return clip(name, _vit(side, patch, *vision, "quick_gelu"), _text(*text, activation="quick_gelu"), embed_dim)


def _demo() -> DualConfig:
    """The demo's: a small convolutional tower at 32 px; its text side is meant to come from ``pocket``."""
    image = ConvConfig(
        image_size=(32, 32), stem=32, stem_stride=2, widths=(32, 64, 128, 256), depths=(1, 1, 1, 1), strides=(1, 2, 2, 2), norm="batch"
    )
    return DualConfig(name="demo", image=image, text=BertConfig(), embed_dim=384, preprocess=Preprocess((32, 32), HALF, HALF, "squash"))


def _study(image: ViTConfig | ConvConfig) -> DualConfig:
    """An image tower small enough to measure a method in minutes on one core, at 32 px; text as in ``demo``."""
    return DualConfig(name="study", image=image, text=BertConfig(), embed_dim=384, preprocess=Preprocess((32, 32), HALF, HALF, "squash"))


def _study_conv(norm: Norm) -> DualConfig:
    widths, depths, strides = (24, 48, 96, 192), (1, 1, 1, 1), (1, 2, 2, 2)
    return _study(ConvConfig(image_size=(32, 32), stem=24, stem_stride=2, widths=widths, depths=depths, strides=strides, norm=norm))


def _study_image(name: str, image: Any) -> DualConfig:
    """Another image tower in place of the study's."""
    return _study(image).model_copy(update={"name": name})


def _study_pair() -> DualConfig:
    """Two trained transformers of one width, small enough for one core: the separate towers that sharing is held against."""
    return clip("study-pair", _vit(32, 8, 128, 4, 4), _text(128, 4, 4, context=32), 128)


def shared(name: str, base: DualConfig, specialised: bool = False) -> DualConfig:
    """``base`` with its text tower's attention and MLPs taken from its image tower, of one size (MS-CLIP, arXiv:2207.12661).

    Args:
        specialised: MS-CLIP-S: convolutions in place of the image's first block, which the text keeps, and a parallel branch.
    """
    settings, image = base.image.model_dump(exclude={"kind"}), base.image
    if specialised:
        halvings, depth = settings["patch"].bit_length() - 1, settings["depth"] - 1
        stem = tuple(settings["width"] >> (halvings - 1 - i) for i in range(halvings))
        lateral = tuple(round((i + 1) * depth / halvings) - 1 for i in range(halvings))
        settings |= {"depth": depth, "stem": stem, "branch": tuple(wide // 2 for wide in stem), "lateral": lateral}
        image = SpecialisedConfig(**settings)
    text = SharedConfig(**base.text.model_dump(exclude={"kind"}), private=int(specialised))
    return base.model_copy(update={"name": name, "image": image, "text": text})


def mini(side: int) -> DualConfig:
    """The shipped model's: a hybrid image tower and a small text tower without causal mask, in MiniLM's 384 dimensions."""
    image = HybridConfig(
        image_size=(side, side),
        stem=32,
        stages=(64, 128),
        stage_depths=(1, 2),
        stage="residual",
        norm="batch",
        conv_activation="relu",
        join_stride=2,
        width=256,
        depth=3,
        heads=4,
        mlp=1024,
        gated=False,
    )
    text = BertConfig(width=192, depth=3, heads=6, mlp_width=768, vocab=8000, context=48)
    return DualConfig(
        name="mini",
        image=image,
        text=text,
        embed_dim=384,
        preprocess=Preprocess((side, side), HALF, HALF, "squash"),
        templates=("{}", "a drawing of {}", "an emoji: {}"),
    )


PRESETS: dict[str, Callable[[], DualConfig]] = {
    "tiny": _tiny,
    "demo": _demo,
    "study-vit": lambda: _study(_vit(32, 4, 64, 4, 2)),
    "study-conv": lambda: _study_conv("batch"),
    "study-conv-group": lambda: _study_conv("group").model_copy(update={"name": "study-conv-group"}),
    "mini": lambda: mini(64),
    "mini-32": lambda: mini(32),
    "vit-s-8-64": lambda: clip("vit-s-8-64", _vit(64, 8, 192, 12, 3), _text(192, 12, 3), 192),
    "vit-b-32": lambda: clip("vit-b-32", _vit(224, 32, 768, 12, 12), _text(512, 12, 8), 512),
    "vit-b-16": lambda: clip("vit-b-16", _vit(224, 16, 768, 12, 12), _text(512, 12, 8), 512),
    "vit-l-14": lambda: clip("vit-l-14", _vit(224, 14, 1024, 24, 16), _text(768, 12, 12), 768),
    "vit-b-32-openai": lambda: _openai("vit-b-32-openai", 224, 32, (768, 12, 12), (512, 12, 8), 512),
    "vit-b-16-openai": lambda: _openai("vit-b-16-openai", 224, 16, (768, 12, 12), (512, 12, 8), 512),
    "vit-l-14-openai": lambda: _openai("vit-l-14-openai", 224, 14, (1024, 24, 16), (768, 12, 12), 768),
    "ms-clip-tiny": lambda: shared("ms-clip-tiny", _tiny()),
    "ms-clip-b-32": lambda: shared("ms-clip-b-32", clip("", _vit(224, 32, 768, 12, 12), _text(768, 12, 12), 512)),
    "ms-clip-s-b-32": lambda: shared("ms-clip-s-b-32", clip("", _vit(224, 32, 768, 12, 12), _text(768, 12, 12), 512), True),
    "study-mamba": lambda: _study_image("study-mamba", MambaConfig(image_size=(32, 32), patch=4, width=64, depth=4, state=8)),
    "study-vitamin": lambda: _study_image("study-vitamin", vitamin("study")),
    "study-pair": _study_pair,
    "study-ms-clip": lambda: shared("study-ms-clip", _study_pair()),
    "study-ms-clip-s": lambda: shared("study-ms-clip-s", _study_pair(), True),
    "siglip-b-16": lambda: _siglip("siglip-b-16", 224, 16, 768, 12, 12),
}


def preset(name: str) -> DualConfig:
    """The frozen config of a named size; an unknown name is a :class:`UsageError` with the nearest one."""
    if name not in PRESETS:
        raise UsageError(f"preset {name!r}", "no preset of that name", nearest(name, PRESETS))
    return PRESETS[name]()
