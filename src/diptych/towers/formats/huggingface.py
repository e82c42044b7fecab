"""Hugging Face ``CLIPModel`` and ``SiglipModel`` folders, both ways."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from diptych.core.errors import DiptychError
from diptych.data.tokenizers import Tokenizer
from diptych.towers.dual import DualConfig, DualEncoder
from diptych.towers.formats.huggingface_config import Kind, parse_config, read_preprocess, write_config, write_preprocess
from diptych.towers.formats.refuse import towers_of
from diptych.towers.formats.rules import Rule, affine, read, same, write
from diptych.towers.formats.tokens import for_huggingface, pad_of, read_external, settings, write_external
from diptych.towers.formats.weights import assign, read_json, read_tensors, write_folder, write_json, write_tensors

POSITION_IDS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "spiece.model", "tokenizer.model")


def _blocks(ours: str, theirs: str, depth: int) -> list[Rule]:
    """Rules of one transformer's blocks; queries, keys and values lie apart over there."""
    rules: list[Rule] = []
    for index in range(depth):
        a, b = f"{ours}.{index}", f"{theirs}.encoder.layers.{index}"
        for end in ("weight", "bias"):
            rules.append(Rule(f"{a}.attention.qkv.{end}", tuple(f"{b}.self_attn.{part}_proj.{end}" for part in "qkv")))
        rules += affine(f"{a}.attention.out", f"{b}.self_attn.out_proj")
        rules += affine(f"{a}.norm1", f"{b}.layer_norm1") + affine(f"{a}.norm2", f"{b}.layer_norm2")
        rules += affine(f"{a}.mlp.up", f"{b}.mlp.fc1") + affine(f"{a}.mlp.down", f"{b}.mlp.fc2")
    return rules


def _head(ours: str, theirs: str) -> list[Rule]:
    """Rules of SigLIP's attention pooling."""
    rules = same(f"{ours}.query", f"{theirs}.probe")
    rules += same(f"{ours}.qkv.weight", f"{theirs}.attention.in_proj_weight") + same(f"{ours}.qkv.bias", f"{theirs}.attention.in_proj_bias")
    rules += affine(f"{ours}.out", f"{theirs}.attention.out_proj") + affine(f"{ours}.norm", f"{theirs}.layernorm")
    return rules + affine(f"{ours}.mlp.up", f"{theirs}.mlp.fc1") + affine(f"{ours}.mlp.down", f"{theirs}.mlp.fc2")


def rules(model: DualEncoder, kind: Kind, what: str) -> list[Rule]:
    """Every tensor of a model beside its name in Hugging Face's."""
    image, text = towers_of(model, what)
    see, say = "vision_model", "text_model"
    table = [
        Rule("image.patch.weight", (f"{see}.embeddings.patch_embedding.weight",), (image.width, 3, image.patch, image.patch)),
        Rule("image.position", (f"{see}.embeddings.position_embedding.weight",)),
        *affine("image.norm", f"{see}.post_layernorm"),
        *_blocks("image.blocks", see, image.depth),
        Rule("text.token.weight", (f"{say}.embeddings.token_embedding.weight",)),
        Rule("text.position", (f"{say}.embeddings.position_embedding.weight",)),
        *affine("text.norm", f"{say}.final_layer_norm"),
        *_blocks("text.blocks", say, text.depth),
    ]
    if kind == "clip":
        return [
            *table,
            Rule("image.class_token", (f"{see}.embeddings.class_embedding",)),
            *affine("image.norm_pre", f"{see}.pre_layrnorm"),
            *same("image_projection", "visual_projection", "weight"),
            *same("text_projection", "text_projection", "weight"),
            Rule("log_scale", ("logit_scale",)),
        ]
    return [
        *table,
        *same("image.patch.bias", f"{see}.embeddings.patch_embedding.bias"),
        *_head("image.attention_pool", f"{see}.head"),
        *affine("text_projection", f"{say}.head"),
        Rule("log_scale", ("logit_scale",), (1,)),
        Rule("bias", ("logit_bias",), (1,)),
    ]


def _tensors(folder: Path) -> dict[str, Tensor]:
    """The weights, whole or in the shards that ``model.safetensors.index.json`` lists, without stored position numbers."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        tensors: dict[str, Tensor] = {}
        for shard in sorted(set(read_json(index).get("weight_map", {}).values())):
            tensors |= read_tensors(folder / shard)
    else:
        pickle = folder / "pytorch_model.bin"
        whole = folder / "model.safetensors"
        tensors = read_tensors(pickle if pickle.is_file() and not whole.is_file() else whole)
    for name in POSITION_IDS:
        numbers = tensors.pop(name, None)
        if numbers is not None and not torch.equal(numbers.flatten().long(), torch.arange(numbers.numel())):
            raise DiptychError(f"weights of {folder}", f"{name} is not 0, 1, 2, …, our positions are", "Convert another model")
    return tensors


def _tokenizer(folder: Path, kind: Kind, config: DualConfig, what: str) -> Tokenizer | None:
    """The folder's tokenizer; None for a folder that holds no tokenizer file at all.

    CLIP's texts are padded with id 0: what stands after the end token decides nothing in a causal tower, and a padding id that is
    the end token's own would hide where a text ends. SigLIP's padding is read by the tower and is taken over.
    """
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return None
    cfg = settings(folder)
    canonical = str(cfg.get("tokenizer_class", "")).startswith("SiglipTokenizer") and cfg.get("do_lower_case", True)
    pad = 0 if kind == "clip" else pad_of(folder, what)
    return read_external(folder, config.text.context, pad, "siglip" if canonical else "none", what)  # type: ignore[attr-defined]


def load_huggingface(folder: str | Path) -> DualEncoder:
    """A CLIP or SigLIP from a Hugging Face folder: ``config.json``, safetensors weights, ``preprocessor_config.json``, tokenizer.

    A folder without any tokenizer file gives a model without tokenizer.

    Raises:
        DiptychError: weights that are not safetensors, unknown or missing keys, or a setting that our towers do not have.
    """
    folder = Path(folder)
    what = f"model {folder}"
    kind, config = parse_config(read_json(folder / "config.json"), read_preprocess(folder, what), folder.name)
    tokenizer = _tokenizer(folder, kind, config, what)
    tensors = _tensors(folder)
    if "logit_scale" in tensors and float(tensors["logit_scale"].exp().max()) > config.max_scale:
        config = config.model_copy(update={"max_scale": math.inf})
    if tokenizer is not None:
        config = config.model_copy(update={"text": config.text.model_copy(update={"pad_id": tokenizer.pad_id})})
    model = DualEncoder(config, tokenizer)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    assign(model, read(rules(model, kind, what), tensors, shapes, what), what)
    return model.eval()


def save_huggingface(model: DualEncoder, folder: str | Path) -> Path:
    """Write a folder that transformers' ``CLIPModel`` or ``SiglipModel`` reads, with image processor and tokenizer.

    Raises :class:`DiptychError` where neither architecture computes the same.
    """
    folder = Path(folder)
    what = f"exporting {model.config.name!r} to Hugging Face"
    kind, config = write_config(model, what)
    preprocess = write_preprocess(model.config.preprocess, kind, what)
    tensors = write(rules(model, kind, what), model.state_dict(), what)
    tokenizer = None if model.tokenizer is None else for_huggingface(model.tokenizer, what)

    def fill(target: Path) -> None:
        write_json(target / "config.json", config)
        write_json(target / "preprocessor_config.json", preprocess)
        write_tensors(target / "model.safetensors", tensors)
        if tokenizer is not None:
            write_external(tokenizer, target)

    write_folder(folder, fill, owned="config.json")
    return folder
