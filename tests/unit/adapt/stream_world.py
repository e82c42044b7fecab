"""Tiny CLIP and SigLIP with random weights, imported from the hub's format, and pictures, for the tests of methods at test time."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import diptych
from diptych.adapt.parts.shots import Shots
from diptych.adapt.parts.work import Pictures, Work
from diptych.core.rng import generator
from diptych.data.tokenizers import Tokenizer
from diptych.towers.classifier import Classifier
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import clip, siglip
from diptych.towers.text import TransformerConfig
from diptych.towers.vision import ViTConfig

LABELS = ("owl", "boat", "pie", "sun")
TEMPLATES = ("a {}.",)
CONTEXT, SIDE = 24, 32


@functools.cache
def imported(kind: str, seed: int = 0) -> DualEncoder:
    """``"clip"`` or ``"siglip"`` out of a folder in the hub's format, every weight random; it reads bytes."""
    image = ViTConfig(image_size=(SIDE, SIDE), patch=8, width=32, depth=3, heads=4, mlp=48)
    text = TransformerConfig(vocab=300, context=CONTEXT, width=32, depth=2, heads=4, mlp=40, pool="eos", eos_id=257, pad_id=258)
    if kind == "clip":
        config = clip(kind, image, text, 20)
    else:
        image = image.model_copy(update={"pool": "attention", "class_token": False, "norm_pre": False, "patch_bias": True})
        config = siglip(kind, image, text.model_copy(update={"causal": False, "pool": "last", "eos_id": None}))
    made, draw = DualEncoder(config.model_copy(update={"tokenizer": None})), generator(seed, "weights", kind)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        for name, value in made.named_parameters():
            if name not in ("log_scale", "bias"):
                value.copy_(torch.randn(value.shape, generator=draw) * 0.2 + ("norm" in name and name.endswith("weight")))
        diptych.save(made, folder, format="huggingface")
        found = diptych.load(folder)
    text = found.config.text.model_copy(update={"pad_id": 258})
    ours = DualEncoder(found.config.model_copy(update={"text": text, "name": kind}), Tokenizer.byte_level(CONTEXT)).eval()
    ours.load_state_dict(found.state_dict())
    return ours


def pictures(count: int, seed: int = 0, side: int = SIDE) -> Tensor:
    """uint8 pictures of a few coloured blobs each, (count, 3, side, side)."""
    coarse = torch.rand(count, 3, 4, 4, generator=generator(seed, "pictures")) * 255
    return F.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=False).round().to(torch.uint8)


def shots(model: DualEncoder, labels: tuple[str, ...] = LABELS, templates: tuple[str, ...] = TEMPLATES) -> Shots:
    """No labelled picture, the words only."""
    text_KD = Classifier.from_labels(model, labels, templates).rows_KD
    assert text_KD is not None
    none = torch.zeros(0, dtype=torch.int64)
    rows = torch.zeros(0, model.embed_dim)
    return Shots(rows, none, text_KD, labels, float(model.scale.detach()), generator(0, "draw"), templates=templates)


def work(model: DualEncoder, labels: tuple[str, ...] = LABELS, templates: tuple[str, ...] = TEMPLATES) -> Work:
    """The same for methods that are given the model."""
    none = Pictures(lambda index: torch.zeros(len(index), 3, *model.config.preprocess.size, dtype=torch.uint8), torch.arange(0))
    return Work(model, shots(model, labels, templates), none, none)


def typed(method: str, root: Path, *more: str, kind: str = "clip") -> list[str]:
    """``diptych adapt`` as it is typed, for a model of ``kind`` and class folders of four classes, all made under ``root``."""
    diptych.save(imported(kind), root / "parent")
    for index, picture_CHW in enumerate(pictures(24)):
        folder = root / "photos" / LABELS[index % 4]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture_CHW.permute(1, 2, 0).numpy()).save(folder / f"{index}.png")
    photos = str(root / "photos")
    return ["adapt", str(root / "parent"), photos, "--method", method, "--keep", photos, "--out", str(root / "run"), *more]
