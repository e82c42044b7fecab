"""Hugging Face's ``config.json`` and ``preprocessor_config.json`` of CLIP and SigLIP to ours and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from diptych.core.errors import DiptychError
from diptych.core.types import Preprocess
from diptych.towers.dual import DualConfig, DualEncoder
from diptych.towers.formats.refuse import Refusal, expect, make_config, only_keys, towers_of
from diptych.towers.formats.weights import read_json
from diptych.towers.projection import ProjectionConfig
from diptych.towers.text import TransformerConfig
from diptych.towers.vision import ViTConfig

Kind = Literal["clip", "siglip"]
ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}
BACK = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "relu": "relu", "silu": "silu"}
# Settings of every Hugging Face config that decide nothing about these models' embeddings.
IDLE = set(
    """_name_or_path _attn_implementation_autoset add_cross_attention architectures auto_map bad_words_ids begin_suppress_tokens
    bos_token_id chunk_size_feed_forward cross_attention_hidden_size decoder_start_token_id diversity_penalty do_sample dtype early_stopping
    encoder_no_repeat_ngram_size exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id id2label
    initializer_factor initializer_range is_decoder is_encoder_decoder label2id length_penalty logit_scale_init_value max_length min_length
    model_type no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_attentions output_hidden_states output_scores
    prefix problem_type pruned_heads remove_invalid_values repetition_penalty return_dict return_dict_in_generate sep_token_id
    suppress_tokens task_specific_params temperature tf_legacy_loss tie_encoder_decoder tie_word_embeddings tokenizer_class top_k top_p
    torch_dtype torchscript transformers_version typical_p use_bfloat16 use_cache""".split()  # noqa: SIM905
)
SIDE = {"attention_dropout", "dropout", "hidden_act", "hidden_size", "intermediate_size", "layer_norm_eps", "num_attention_heads"}
SIDE |= {"num_hidden_layers", "projection_dim"}
TEXT = SIDE | {"eos_token_id", "max_position_embeddings", "pad_token_id", "vocab_size", "projection_size"}
VISION = SIDE | {"image_size", "patch_size", "num_channels", "vision_use_head"}
TOP = {"text_config", "vision_config", "text_config_dict", "vision_config_dict", "projection_dim"}
DEFAULTS: dict[Kind, tuple[dict[str, Any], dict[str, Any]]] = {
    "clip": (
        {"vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8}
        | {"max_position_embeddings": 77, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "eos_token_id": 49407},
        {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 224}
        | {"patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
    ),
    "siglip": (
        {"vocab_size": 32000, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
        | {"max_position_embeddings": 64, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "pad_token_id": 1},
        {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 224}
        | {"patch_size": 16, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
    ),
}
CROPS = ("crop", "crop-floor")
PROCESSOR = {"size", "crop_size", "do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "resample"}
PROCESSOR |= {"rescale_factor", "image_mean", "image_std", "image_processor_type", "feature_extractor_type", "processor_class"}
PROCESSOR |= {"data_format", "default_to_square", "device", "disable_grouping", "input_data_format", "return_tensors", "use_fast"}
PROCESSOR |= {"do_pad", "pad_size", "image_seq_length"}


def _side(cfg: dict[str, Any], known: set[str], what: str) -> dict[str, Any]:
    """What both towers' configs share, as keyword arguments of ours."""
    only_keys(cfg, known | IDLE, what)
    expect(cfg["hidden_act"], ACTIVATIONS, "hidden_act", what)
    return {
        "width": cfg["hidden_size"],
        "depth": cfg["num_hidden_layers"],
        "heads": cfg["num_attention_heads"],
        "mlp": cfg["intermediate_size"],
        "activation": ACTIVATIONS[cfg["hidden_act"]],
        "norm_eps": cfg["layer_norm_eps"],
    }


def parse_config(raw: dict[str, Any], preprocess: Preprocess, name: str) -> tuple[Kind, DualConfig]:
    """Which of the two architectures it is, and its config as ours, without tokenizer settings."""
    what = f"config.json of {name}"
    expect(raw.get("model_type"), ("clip", "siglip"), "model_type", what, "the readable kinds")
    kind: Kind = raw["model_type"]
    only_keys(raw, TOP | IDLE | {"initializer_factor"}, what)
    text_defaults, vision_defaults = DEFAULTS[kind]
    text = text_defaults | (raw.get("text_config") or {}) | (raw.get("text_config_dict") or {})
    vision = vision_defaults | (raw.get("vision_config") or {}) | (raw.get("vision_config_dict") or {})
    image_side = _side(vision, VISION, f"{what}, vision_config")
    text_side = _side(text, TEXT, f"{what}, text_config")
    expect(vision.get("num_channels", 3), (3,), "num_channels", f"{what}, vision_config")
    expect(vision.get("vision_use_head", True), (True,), "vision_use_head", f"{what}, vision_config")
    side = vision["image_size"]
    expect(preprocess.size, ((side, side),), "size", f"preprocessor_config.json of {name}", "pictures of config.json")
    shared: dict[str, Any] = {"name": name, "preprocess": preprocess}
    image: dict[str, Any] = {"image_size": (side, side), "patch": vision["patch_size"], **image_side}
    words: dict[str, Any] = {"vocab": text["vocab_size"], "context": text["max_position_embeddings"], **text_side}
    if kind == "clip":
        eos = text["eos_token_id"]
        pool: dict[str, Any] = {"pool": "argmax"} if eos == 2 else {"pool": "eos", "eos_id": eos}
        towers = {"image": make_config(ViTConfig, what, **image), "text": make_config(TransformerConfig, what, **words, **pool)}
        return kind, make_config(DualConfig, what, **shared, **towers, embed_dim=raw.get("projection_dim", 512))
    head: dict[str, Any] = {"pool": "attention", "class_token": False, "norm_pre": False, "patch_bias": True}
    return kind, make_config(
        DualConfig,
        what,
        **shared,
        image=make_config(ViTConfig, what, **image, **head),
        text=make_config(TransformerConfig, what, **words, causal=False, pool="last", pad_id=text["pad_token_id"]),
        embed_dim=text.get("projection_size", text["hidden_size"]),
        image_projection=ProjectionConfig(kind="none"),
        text_projection=ProjectionConfig(kind="linear", bias=True),
        init_scale=10.0,
        init_bias=-10.0,
    )


def read_preprocess(folder: Path, what: str) -> Preprocess:
    """``preprocessor_config.json`` (or the image part of ``processor_config.json``) as ours."""
    path, other = folder / "preprocessor_config.json", folder / "processor_config.json"
    if not path.is_file() and other.is_file():
        path = other
    raw = read_json(path)
    cfg = raw.get("image_processor", raw)
    what = f"{what}, {path.name}"
    only_keys(cfg, PROCESSOR, what)
    for key in ("do_resize", "do_rescale", "do_normalize"):
        expect(cfg.get(key, True), (True,), key, what)
    for key in ("do_pad", "pad_size"):
        expect(cfg.get(key) or None, (None,), key, what)
    expect(cfg.get("resample", 3), (2, 3), "resample", what)
    expect(round(1 / cfg.get("rescale_factor", 1 / 255), 3), (255,), "1 / rescale_factor", what)
    if missing := [key for key in ("size", "image_mean", "image_std") if key not in cfg]:
        raise DiptychError(what, f"it has no {missing[0]}", "Save the image processor again with the model")
    size, resize = _size(cfg, what)
    mean, std = tuple(cfg["image_mean"]), tuple(cfg["image_std"])
    return Preprocess(size, mean, std, resize, "bicubic" if cfg.get("resample", 3) == 3 else "bilinear", (0, 0, 0))  # type: ignore[arg-type]


def _size(cfg: dict[str, Any], what: str) -> tuple[tuple[int, int], str]:
    """Height and width, and how a picture gets there."""
    size, crop = cfg["size"], cfg.get("crop_size")
    size = {"shortest_edge": size} if isinstance(size, int) else {key: value for key, value in size.items() if value is not None}
    if cfg.get("do_center_crop", False):
        crop = {"height": crop, "width": crop} if isinstance(crop, int) or crop is None else crop
        edges = {"crop_size": (crop["height"], crop["width"]), "size": size.get("shortest_edge")}
        expect(edges["crop_size"], ((edges["size"], edges["size"]),), "crop_size", what, "pictures resized to their shortest side")
        return edges["crop_size"], "crop-floor"
    if set(size) != {"height", "width"}:
        raise DiptychError(what, f"size {size} without a crop gives pictures of many shapes", "Give height and width")
    return (size["height"], size["width"]), "squash"


def write_preprocess(preprocess: Preprocess, kind: Kind, what: str) -> dict[str, Any]:
    """Our preprocessing as ``preprocessor_config.json``."""
    height, width = preprocess.size
    need = Refusal(what, "Hugging Face's image processor").need
    need("preprocess.resize", preprocess.resize, "squash", *(CROPS if kind == "clip" else ()))
    cropped = preprocess.resize != "squash"
    need("a cropped size", (height, width), (height, height) if cropped else (height, width))
    size = {"shortest_edge": height} if cropped else {"height": height, "width": width}
    return {
        "image_processor_type": "CLIPImageProcessor" if kind == "clip" else "SiglipImageProcessor",
        "do_resize": True,
        "size": size,
        "resample": 3 if preprocess.interpolation == "bicubic" else 2,
        **({"do_center_crop": cropped, "crop_size": {"height": height, "width": width}} if kind == "clip" else {}),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
        "do_convert_rgb": True,
    }


def write_config(model: DualEncoder, what: str) -> tuple[Kind, dict[str, Any]]:
    """``config.json`` as CLIP or as SigLIP, whichever computes the same. Raises :class:`DiptychError` where neither does."""
    image, text = towers_of(model, what)
    config = model.config
    kind: Kind = "siglip" if image.pool == "attention" else "clip"
    need = Refusal(what, f"Hugging Face's {kind}").need
    clip = kind == "clip"
    need("the image tower's pooling", image.pool, "class" if clip else "attention")
    need("class_token", image.class_token, clip)
    need("norm_pre", image.norm_pre, clip)
    need("patch_bias", image.patch_bias, not clip)
    need("registers", image.registers, 0)
    need("norm_last", image.norm_last, *(("tokens", "pooled") if clip else ("tokens",)))
    need("layer_scale", image.layer_scale or text.layer_scale, None)
    need("square pictures", image.image_size[0], image.image_size[1])
    need("the image projection", config.image_projection, ProjectionConfig() if clip else ProjectionConfig(kind="none"))
    need("the text projection", config.text_projection, ProjectionConfig(kind="linear", bias=not clip))
    need("causal", text.causal, clip)
    need("the text tower's pooling", text.pool, *(("argmax", "eos") if clip else ("last",)))
    need("a bias of the logits", model.bias is not None, not clip)
    vision_config = _write_side(image) | {"image_size": image.image_size[0], "patch_size": image.patch, "num_channels": 3}
    text_config = _write_side(text) | {"vocab_size": text.vocab, "max_position_embeddings": text.context}
    if clip:
        first = 49406 if text.vocab == 49408 else None
        text_config |= {"eos_token_id": 2 if text.pool == "argmax" else text.eos_id, "bos_token_id": first, "pad_token_id": text.pad_id}
        extra = {"projection_dim": config.embed_dim, "architectures": ["CLIPModel"]}
    else:
        text_config |= {"pad_token_id": text.pad_id, "projection_size": config.embed_dim, "bos_token_id": None, "eos_token_id": text.pad_id}
        vision_config |= {"vision_use_head": True}
        extra = {"architectures": ["SiglipModel"]}
    text_config["model_type"], vision_config["model_type"] = f"{kind}_text_model", f"{kind}_vision_model"
    return kind, {"model_type": kind, "dtype": "float32", **extra, "text_config": text_config, "vision_config": vision_config}


def _write_side(config: ViTConfig | TransformerConfig) -> dict[str, Any]:
    return {
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp,
        "hidden_act": BACK[config.activation],
        "layer_norm_eps": config.norm_eps,
        "attention_dropout": 0.0,
    }
