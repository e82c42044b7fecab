"""Small dual encoders and pictures of plain colours, for the tests of methods that change towers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.adapt.parts.shots import Shots
from diptych.adapt.parts.work import Pictures, Work
from diptych.core.rng import generator
from diptych.core.types import Preprocess
from diptych.data.tokenizers import Tokenizer
from diptych.towers.bert import BertConfig
from diptych.towers.dual import DualConfig, DualEncoder
from diptych.towers.efficientnet import EfficientNetLite0Config
from diptych.towers.ms_clip import SharedConfig
from diptych.towers.presets import HALF, siglip
from diptych.towers.text import TransformerConfig
from diptych.towers.vision import ViTConfig

SIDE, CONTEXT, WIDTH = 16, 12, 16
COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200), "grey": (120, 120, 120)}
OPEN_CLIP = Path(__file__).resolve().parents[2] / "golden" / "formats_open_clip"


def tiny(kind: str = "clip", seed: int = 0) -> DualEncoder:
    """Two towers of 16 px, width 16 and two blocks: ``"clip"``, ``"siglip"``, ``"bert"`` for the text, ``"shared"`` blocks, ``"conv"``."""
    bytes_ = Tokenizer.byte_level(CONTEXT)
    sizes: dict[str, Any] = {"width": WIDTH, "depth": 2, "heads": 2, "mlp": 32}
    image = ViTConfig(image_size=(SIDE, SIDE), patch=8, **sizes)
    text = TransformerConfig(vocab=bytes_.vocab, context=CONTEXT, **sizes)
    given: dict[str, Any] = {"preprocess": Preprocess((SIDE, SIDE), HALF, HALF, resize="squash"), "tokenizer": bytes_.config}
    if kind == "siglip":
        image = image.model_copy(update={"pool": "attention", "class_token": False, "norm_pre": False, "patch_bias": True})
        text = text.model_copy(update={"causal": False, "pool": "last"})
        config = siglip("tiny", image, text).model_copy(update={**given, "templates": ("a {}",)})
        return DualEncoder(DualConfig.model_validate(dict(config)), bytes_, seed=seed).eval()
    if kind == "bert":
        text = BertConfig(width=WIDTH, depth=2, heads=2, mlp_width=32, vocab=bytes_.vocab, context=CONTEXT)  # type: ignore[assignment]
    if kind == "shared":
        text = SharedConfig(vocab=bytes_.vocab, context=CONTEXT, **sizes)
    if kind == "conv":
        image = EfficientNetLite0Config(image_size=(32, 32))  # type: ignore[assignment]
        given["preprocess"] = Preprocess((32, 32), HALF, HALF, resize="squash")
    config = DualConfig(name="tiny", image=image, text=text, embed_dim=WIDTH, templates=("{}", "a {}"), **given)
    return DualEncoder(config, bytes_, seed=seed).eval()


def inputs(model: DualEncoder) -> tuple[Tensor, Tensor]:
    """Some pixels and ids that the model reads."""
    draw = generator(0, "inputs")
    height, width = model.config.preprocess.size
    pixels = torch.randint(0, 256, (3, 3, height, width), generator=draw, dtype=torch.uint8)
    top = int(getattr(model.config.text, "vocab", 2))
    ids = torch.randint(3, top - 1, (4, model.text.context), generator=draw)
    ids[:, -1] = getattr(model.config.text, "eos_id", None) or top - 1
    return pixels, ids


def rows(model: DualEncoder) -> Tensor:
    """What both towers make of :func:`inputs`, without gradient."""
    pixels, ids = inputs(model)
    with torch.no_grad():
        return torch.cat([model.image_features(pixels), model.text_features(ids)])


def paintings(count: int, classes: int = 4, seed: int = 0, side: int = SIDE) -> tuple[Tensor, Tensor]:
    """Noisy pictures of one colour each, uint8 (N, 3, side, side), and their labels."""
    draw = generator(seed, "paintings")
    label_N = torch.arange(classes).repeat_interleave(count)
    colour_K3 = torch.tensor(list(COLOURS.values()))[:classes].float()
    noise = 50 * torch.randn(len(label_N), 3, side, side, generator=draw)
    return (colour_K3[label_N][:, :, None, None] + noise).clamp(0, 255).to(torch.uint8), label_N


def tiny_work(model: DualEncoder, count: int = 4, classes: int = 4, seed: int = 0, take: Tensor | None = None) -> Work:
    """The model with ``count`` labelled paintings of each colour, or those of them at ``take``."""
    image_NCHW, label_N = paintings(count, classes, seed, model.config.preprocess.size[0])
    index = torch.arange(len(label_N)) if take is None else take
    names = tuple(COLOURS)[:classes]
    with torch.no_grad():
        image_SD = model.encode_image(image_NCHW)
        text_KD = model.classifier(names).rows_KD
    assert text_KD is not None
    captions = tuple((f"a {names[int(k)]} wall",) for k in label_N)
    shots = Shots(
        image_SD,
        label_N,
        text_KD,
        names,
        float(model.scale.detach()),
        generator(seed, "draw"),
        None,
        captions,
        model.templates,
        model.encode_text,
    )
    none = Pictures(lambda index_B: image_NCHW[index_B], torch.arange(0))
    return Work(model, shots, Pictures(lambda index_B: image_NCHW[index_B], torch.arange(len(label_N))), none).take(index)
