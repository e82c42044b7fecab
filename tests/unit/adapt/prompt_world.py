"""Small models with random weights, and labelled pictures for them, for the tests of methods that learn prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.shots import Shots
from diptych.adapt.parts.work import Pictures, Work
from diptych.core.rng import generator
from diptych.data.tokenizers import Tokenizer, TokenizerConfig
from diptych.towers.bert import BertConfig
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset
from diptych.towers.prompts import Inserted, text_start
from diptych.towers.text import TransformerConfig

CONTEXT = 20
BYTES: dict[str, Any] = {"vocab": 300, "context": CONTEXT, "width": 16, "depth": 2, "heads": 2, "pad_id": 258}
TEXTS = {
    "causal": TransformerConfig(**BYTES, mlp=24, pool="eos", eos_id=257),
    "both ways": TransformerConfig(**BYTES, mlp=24, causal=False, pool="last"),
    "bert": BertConfig(**BYTES, mlp_width=24),
}
NAMES = ("owl", "a tree", "snow", "red pear")


def randomise(model: DualEncoder, seed: int = 0) -> DualEncoder:
    """Every weight random, so that no part of a tower is without effect."""
    draw = generator(seed, "prompt world")
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name != "log_scale" and name != "bias":
                one = value.ndim == 1 and name.endswith("weight")
                value.copy_(one + 0.2 * torch.randn(value.shape, generator=draw))
    return model.eval()


def small(kind: str) -> DualEncoder:
    """A model that reads bytes with a text tower of this kind."""
    tokenizer = TokenizerConfig(context=CONTEXT, pad_id=258)
    config = preset("tiny").model_copy(update={"text": TEXTS[kind], "tokenizer": tokenizer, "init_scale": 20.0})
    return randomise(DualEncoder(config, Tokenizer.byte_level(CONTEXT)))


def world(model: DualEncoder, each: int = 4, seed: int = 0, names: tuple[str, ...] = NAMES, spread: float = 0.1) -> Work:
    """Labelled rows around those of the names behind a hidden context, which is what there is to learn.

    Pictures are grey; their rows are not those of the labelled rows.
    """
    draw = generator(seed, "prompt world rows")
    label_S = torch.arange(len(names)).repeat_interleave(each)
    hidden = Inserted((2 * torch.randn(4, model.text.width, generator=draw),), text_start(model))
    with torch.no_grad():
        assert model.tokenizer is not None
        centre_KD = model.text_features(model.tokenizer([f"{name}." for name in names]), prompts=hidden)
        centre_KD = F.normalize(centre_KD - 0.8 * centre_KD.mean(0), dim=1)
    image_SD = F.normalize(centre_KD[label_S] + spread * torch.randn(len(label_S), model.embed_dim, generator=draw), dim=1)
    encode = model.encode_text
    scale = float(model.scale.detach())
    text_KD = encode([f"a {name}" for name in names])
    shots = Shots(image_SD, label_S, text_KD, names, scale, generator(seed, "prompt draw"), templates=("a {}",), encode=encode)
    side = model.config.preprocess.size

    def grey(index_B: Tensor) -> Tensor:
        return (index_B % 256).to(torch.uint8)[:, None, None, None].expand(-1, 3, *side)

    return Work(model, shots, Pictures(grey, torch.arange(len(label_S))), Pictures(grey, torch.arange(0)))


def again(work: Work, seed: int = 0) -> Work:
    """The same with the random numbers from the beginning."""
    return replace(work, shots=replace(work.shots, draw=generator(seed, "prompt draw")))
