"""open_clip's state dicts with their JSON configs, both ways, for its own vision and text transformers.

Both namings are read: the plain ``CLIP`` (text tower at the top level) and ``CustomTextCLIP`` (``text.`` before it).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.core.errors import DiptychError
from diptych.data.tokenizers import Tokenizer
from diptych.towers.dual import DualConfig, DualEncoder
from diptych.towers.formats.open_clip_config import parse_config, write_config
from diptych.towers.formats.refuse import expect, only_keys, towers_of
from diptych.towers.formats.rules import Rule, affine, read, same, write
from diptych.towers.formats.tokens import pad_of, read_external, write_external
from diptych.towers.formats.weights import assign, read_json, read_tensors, write_folder, write_json, write_tensors

WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")
CLIP_VOCAB = 49408


def _blocks(ours: str, theirs: str, depth: int, scaled: bool) -> list[Rule]:
    """Rules of one transformer's blocks."""
    rules: list[Rule] = []
    for index in range(depth):
        a, b = f"{ours}.{index}", f"{theirs}.resblocks.{index}"
        rules += affine(f"{a}.norm1", f"{b}.ln_1") + affine(f"{a}.norm2", f"{b}.ln_2")
        rules += same(f"{a}.attention.qkv.weight", f"{b}.attn.in_proj_weight") + same(f"{a}.attention.qkv.bias", f"{b}.attn.in_proj_bias")
        rules += affine(f"{a}.attention.out", f"{b}.attn.out_proj")
        rules += affine(f"{a}.mlp.up", f"{b}.mlp.c_fc") + affine(f"{a}.mlp.down", f"{b}.mlp.c_proj")
        rules += same(f"{a}.scale1.gamma", f"{b}.ls_1.gamma") + same(f"{a}.scale2.gamma", f"{b}.ls_2.gamma") if scaled else []
    return rules


def rules(model: DualEncoder, custom: bool, what: str, scalar: tuple[int, ...] = ()) -> list[Rule]:
    """Every tensor of a model beside its name in open_clip.

    Args:
        custom: ``CustomTextCLIP`` naming.
        scalar: shape of scale and bias over there.
    """
    image, text = towers_of(model, what)
    top = "text." if custom else ""
    kernel = (image.width, 3, image.patch, image.patch)
    table = [
        Rule("image.class_token", ("visual.class_embedding",)),
        Rule("image.position", ("visual.positional_embedding",)),
        Rule("image.patch.weight", ("visual.conv1.weight",), kernel),
        *(affine("image.norm_pre", "visual.ln_pre") if image.norm_pre else []),
        *affine("image.norm", "visual.ln_post"),
        *_blocks("image.blocks", "visual.transformer", image.depth, image.layer_scale is not None),
        Rule("image_projection.weight", ("visual.proj",), turned=True),
        Rule("text.token.weight", (f"{top}token_embedding.weight",)),
        Rule("text.position", (f"{top}positional_embedding",)),
        *affine("text.norm", f"{top}ln_final"),
        *_blocks("text.blocks", f"{top}transformer", text.depth, text.layer_scale is not None),
        Rule("log_scale", ("logit_scale",), scalar),
    ]
    if model.config.text_projection.bias:
        table += affine("text_projection", f"{top}text_projection")
    elif model.config.text_projection.kind == "linear":
        table.append(Rule("text_projection.weight", (f"{top}text_projection",), turned=True))
    if model.bias is not None:
        table.append(Rule("bias", ("logit_bias",), scalar))
    return table


def import_state(config: DualConfig, tokenizer: Tokenizer | None, tensors: dict[str, Tensor], what: str) -> DualEncoder:
    """A model out of an open_clip state dict. Raises :class:`DiptychError` naming both sides where they do not fit."""
    if "logit_scale" not in tensors:
        raise DiptychError(what, "the weights have no logit_scale, so they are not open_clip's", "Point at an open_clip model")
    scale = tensors["logit_scale"]
    if float(scale.exp()) > config.max_scale:
        config = config.model_copy(update={"max_scale": math.inf})
    model = DualEncoder(config, tokenizer)
    custom = any(name.startswith("text.") for name in tensors)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    assign(model, read(rules(model, custom, what, tuple(scale.shape)), tensors, shapes, what), what)
    return model.eval()


def _weights(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    pickles = sorted(path for path in folder.glob("open_clip*") if path.suffix in (".bin", ".pt"))
    return pickles[0] if pickles else folder / WEIGHTS[0]


def _tokenizer(folder: Path, config: DualConfig, cfg: dict[str, Any], what: str) -> Tokenizer | None:
    """The tokenizer that open_clip would use: the folder's own file where the config names one, else CLIP's byte pairs."""
    kwargs = dict(cfg.get("tokenizer_kwargs") or {})
    only_keys(kwargs, ("clean",), f"{what}, tokenizer_kwargs")
    expect(cfg.get("tokenizer_mode"), (None, ""), "tokenizer_mode", f"{what}, text_cfg")
    context = cfg.get("context_length", 77)
    if cfg.get("hf_tokenizer_name") is not None:
        clean = kwargs.get("clean", "whitespace")
        expect(clean, ("lower", "whitespace", "canonicalize"), "clean", f"{what}, tokenizer_kwargs")
        return read_external(folder, context, pad_of(folder, what), clean, what)
    if cfg.get("vocab_size", CLIP_VOCAB) != CLIP_VOCAB:
        return None
    made = Tokenizer.clip(context)
    clean = kwargs.get("clean", "lower")
    return made if clean == "lower" else Tokenizer(made.core, made.config.model_copy(update={"clean": clean}))


def load_open_clip(path: str | Path) -> DualEncoder:
    """An open_clip model from a folder (``open_clip_config.json`` and weights) or a ``.safetensors`` file with a ``.json`` beside it.

    A config whose vocabulary is not CLIP's and that names no tokenizer gives a model without one.

    Raises:
        DiptychError: weights that are not safetensors, unknown or missing keys, or a setting that our towers do not have.
    """
    path = Path(path)
    weights = _weights(path) if path.is_dir() else path
    beside = weights.with_suffix(".json")
    config_path = beside if path.is_file() and beside.is_file() else weights.parent / "open_clip_config.json"
    what = f"model {path}"
    raw = read_json(config_path)
    config = parse_config(raw, path.stem if path.is_file() else path.name)
    tokenizer = _tokenizer(weights.parent, config, raw.get("model_cfg", raw)["text_cfg"], what)
    return import_state(config, tokenizer, read_tensors(weights), what)


def save_open_clip(model: DualEncoder, folder: str | Path) -> Path:
    """Write ``open_clip_config.json``, ``open_clip_model.safetensors`` and, unless it is CLIP's, the tokenizer.

    open_clip reads it as ``local-dir:FOLDER``. Raises :class:`DiptychError` where open_clip cannot compute the same.
    """
    folder = Path(folder)
    what = f"exporting {model.config.name!r} to open_clip"
    config = write_config(model, what)
    custom = model.config.text_projection.bias or model.config.text_projection.kind == "none"
    if custom:
        config["model_cfg"]["custom_text"] = True
    tensors = write(rules(model, custom, what), model.state_dict(), what)
    tokenizer = model.tokenizer

    def fill(target: Path) -> None:
        if tokenizer is not None and tokenizer.config.marks and model.config.text.vocab == CLIP_VOCAB:  # type: ignore[attr-defined]
            if tokenizer.config.clean != "lower":
                config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"clean": tokenizer.config.clean}
        elif tokenizer is not None:
            expect(tokenizer.config.clean, ("lower", "whitespace", "canonicalize"), "cleaning of texts", what, "open_clip's tokenizers")
            config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = str(folder.resolve())
            config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"clean": tokenizer.config.clean}
            write_external(tokenizer, target)
        write_json(target / "open_clip_config.json", config)
        write_tensors(target / "open_clip_model.safetensors", tensors)

    write_folder(folder, fill, owned="open_clip_config.json")
    return folder
