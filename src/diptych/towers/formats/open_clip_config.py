"""open_clip's JSON configs to ours and back; whatever would change the output and has no place on the other side is refused."""

from __future__ import annotations

import math
from typing import Any

from diptych.core.errors import DiptychError
from diptych.core.types import Preprocess
from diptych.towers.dual import DualConfig, DualEncoder
from diptych.towers.formats.refuse import Refusal, expect, make_config, only_keys, towers_of
from diptych.towers.presets import CLIP_MEAN, CLIP_STD
from diptych.towers.projection import ProjectionConfig
from diptych.towers.text import TransformerConfig
from diptych.towers.vision import ViTConfig

MODEL_KEYS = (
    "embed_dim",
    "vision_cfg",
    "text_cfg",
    "quick_gelu",
    "custom_text",
    "init_logit_scale",
    "init_logit_bias",
    "nonscalar_logit_scale",
)
TRAINING_KEYS = ("patch_dropout", "output_tokens", "timm_drop", "timm_drop_path", "timm_model_pretrained")
PLAIN = {
    "attentional_pool": False,
    "pos_embed_type": "learnable",
    "block_type": None,
    "qk_norm": False,
    "scaled_cosine_attn": False,
    "scale_heads": False,
    "scale_attn_inner": False,
    "scale_attn": False,
    "scale_fc": False,
    "timm_model_name": None,
    "hf_model_name": None,
    "embed_cls": False,
    "use_pad_mask": False,
}
SHARED = ("layers", "width", "mlp_ratio", "ls_init_value", "final_ln_after_pool", "pool_type", "act_kwargs", "norm_kwargs")
VISION_KEYS = (*SHARED, *PLAIN, *TRAINING_KEYS, "head_width", "patch_size", "image_size", "no_ln_pre")
VISION_KEYS += ("attn_pooler_queries", "attn_pooler_heads", "timm_pool", "timm_proj", "timm_proj_bias")
TEXT_KEYS = (
    *SHARED,
    *PLAIN,
    *TRAINING_KEYS,
    "context_length",
    "vocab_size",
    "hf_tokenizer_name",
    "tokenizer_mode",
    "tokenizer_kwargs",
    "heads",
)
TEXT_KEYS += ("pad_id", "eos_id", "no_causal_mask", "proj_bias", "proj_type", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type")
RESIZE = {"shortest": "crop", "longest": "pad", "squash": "squash"}
POOL = {"tok": "class", "avg": "mean"}


def _activation(quick: bool, kwargs: dict[str, Any] | None, what: str) -> str:
    """Our name for the activation of one tower."""
    kwargs = kwargs or {}
    only_keys(kwargs, () if quick else ("approximate",), f"{what}, act_kwargs")
    approximate = kwargs.get("approximate", "none")
    expect(approximate, ("none", "tanh"), "approximate", f"{what}, act_kwargs")
    return "quick_gelu" if quick else {"none": "gelu", "tanh": "gelu_tanh"}[approximate]


def _epsilon(kwargs: dict[str, Any] | None, what: str) -> float:
    only_keys(kwargs or {}, ("eps",), f"{what}, norm_kwargs")
    return float((kwargs or {}).get("eps", 1e-5))


def _check_plain(cfg: dict[str, Any], what: str) -> None:
    for key, value in PLAIN.items():
        expect(cfg.get(key, value) or value, (value,), key, what)


def _vision(cfg: dict[str, Any], quick: bool, what: str) -> ViTConfig:
    """open_clip's ``vision_cfg`` as our config."""
    what = f"{what}, vision_cfg"
    only_keys(cfg, VISION_KEYS, what)
    _check_plain(cfg, what)
    expect(cfg.get("pool_type", "tok"), POOL, "pool_type", what)
    layers, width, patch, size = cfg.get("layers", 12), cfg.get("width", 768), cfg.get("patch_size", 16), cfg.get("image_size", 224)
    if not isinstance(layers, int) or not isinstance(patch, int):
        raise DiptychError(
            what, f"layers {layers!r} and patch_size {patch!r}: not a vision transformer of square patches", "Convert another model"
        )
    return make_config(
        ViTConfig,
        what,
        image_size=(size, size) if isinstance(size, int) else tuple(size),
        patch=patch,
        width=width,
        depth=layers,
        heads=width // cfg.get("head_width", 64),
        mlp=int(width * cfg.get("mlp_ratio", 4.0)),
        pool=POOL[cfg.get("pool_type", "tok")],
        norm_pre=not cfg.get("no_ln_pre", False),
        norm_last="pooled" if cfg.get("final_ln_after_pool", False) else "tokens",
        activation=_activation(quick, cfg.get("act_kwargs"), what),
        norm_eps=_epsilon(cfg.get("norm_kwargs"), what),
        layer_scale=cfg.get("ls_init_value"),
    )


def _text(cfg: dict[str, Any], quick: bool, what: str) -> TransformerConfig:
    """open_clip's ``text_cfg`` as our config."""
    what = f"{what}, text_cfg"
    only_keys(cfg, TEXT_KEYS, what)
    _check_plain(cfg, what)
    expect(cfg.get("pool_type", "argmax"), ("argmax", "eos", "first", "last"), "pool_type", what)
    expect(cfg.get("proj_type", "linear"), ("linear", "none"), "proj_type", what)
    width, pool = cfg.get("width", 512), cfg.get("pool_type", "argmax")
    return make_config(
        TransformerConfig,
        what,
        vocab=cfg.get("vocab_size", 49408),
        context=cfg.get("context_length", 77),
        width=width,
        depth=cfg.get("layers", 12),
        heads=cfg.get("heads", 8),
        mlp=int(width * cfg.get("mlp_ratio", 4.0)),
        causal=not cfg.get("no_causal_mask", False),
        pool=pool,
        eos_id=cfg.get("eos_id", 2) if pool == "eos" else None,
        pad_id=cfg.get("pad_id", 0),
        activation=_activation(quick, cfg.get("act_kwargs"), what),
        norm_eps=_epsilon(cfg.get("norm_kwargs"), what),
        layer_scale=cfg.get("ls_init_value"),
    )


def _preprocess(cfg: dict[str, Any], size: tuple[int, int], what: str) -> Preprocess:
    """open_clip's ``preprocess_cfg`` as ours; what it leaves out has open_clip's default."""
    what = f"{what}, preprocess_cfg"
    only_keys(cfg, ("size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"), what)
    expect(cfg.get("mode", "RGB"), ("RGB",), "mode", what)
    expect(cfg.get("interpolation", "bicubic"), ("bicubic", "bilinear"), "interpolation", what)
    expect(cfg.get("resize_mode", "shortest"), RESIZE, "resize_mode", what)
    mean, std = (tuple(cfg.get(key) or default) for key, default in (("mean", CLIP_MEAN), ("std", CLIP_STD)))
    asked = cfg.get("size", size)
    asked = (asked, asked) if isinstance(asked, int) else tuple(asked)[-2:]
    expect(asked, (size,), "size", what, "the image tower's pictures")
    fill = cfg.get("fill_color", 0)
    red, green, blue = (fill,) * 3 if isinstance(fill, int) else fill
    return Preprocess(
        size,
        (mean[0], mean[1], mean[2]),
        (std[0], std[1], std[2]),
        RESIZE[cfg.get("resize_mode", "shortest")],
        cfg.get("interpolation", "bicubic"),
        (int(red), int(green), int(blue)),
    )


def parse_config(raw: dict[str, Any], name: str) -> DualConfig:
    """An open_clip JSON config (bare, or with ``model_cfg`` and ``preprocess_cfg``) as our config, without tokenizer settings."""
    what = f"open_clip config of {name}"
    if "model_cfg" in raw:
        only_keys(raw, ("model_cfg", "preprocess_cfg"), what)
    cfg = raw.get("model_cfg", raw)
    only_keys(cfg, MODEL_KEYS, what)
    for key in ("embed_dim", "vision_cfg", "text_cfg"):
        if key not in cfg:
            raise DiptychError(what, f"it has no {key}", "Use the JSON file of open_clip's model_configs")
    quick = bool(cfg.get("quick_gelu", False))
    image, text = _vision(cfg["vision_cfg"], quick, what), _text(cfg["text_cfg"], quick, what)
    projected = cfg["text_cfg"].get("proj_type", "linear") == "linear"
    biased = projected and cfg["text_cfg"].get("proj_bias", False)
    return make_config(
        DualConfig,
        what,
        name=name,
        image=image,
        text=text,
        embed_dim=cfg["embed_dim"],
        text_projection=ProjectionConfig(kind="linear", bias=biased) if projected else ProjectionConfig(kind="none"),
        preprocess=_preprocess(raw.get("preprocess_cfg", {}), image.image_size, what),
        init_scale=math.exp(cfg.get("init_logit_scale", math.log(1 / 0.07))),
        init_bias=cfg.get("init_logit_bias"),
    )


def _side(config: ViTConfig | TransformerConfig) -> dict[str, Any]:
    """The settings that both towers spell alike."""
    side: dict[str, Any] = {"width": config.width, "layers": config.depth, "mlp_ratio": ratio(config.mlp, config.width)}
    if config.layer_scale is not None:
        side["ls_init_value"] = config.layer_scale
    if config.activation == "gelu_tanh":
        side["act_kwargs"] = {"approximate": "tanh"}
    if config.norm_eps != 1e-5:
        side["norm_kwargs"] = {"eps": config.norm_eps}
    return side


def ratio(hidden: int, width: int) -> float:
    """``hidden / width``, nudged where rounding would make ``int(width * ratio)`` another number."""
    return next(r for r in (hidden / width, (hidden + 0.5) / width) if int(width * r) == hidden)


def write_config(model: DualEncoder, what: str) -> dict[str, Any]:
    """``open_clip_config.json`` of a model. Raises :class:`DiptychError` where open_clip cannot compute the same."""
    image, text = towers_of(model, what)
    config, need = model.config, Refusal(what, "open_clip's own transformers").need
    need("the image tower's pooling", image.pool, *POOL.values())
    need("class_token", image.class_token, True)
    need("registers", image.registers, 0)
    need("patch_bias", image.patch_bias, False)
    need("width per head", image.width % image.heads, 0)
    need("the image projection", config.image_projection, ProjectionConfig())
    need("the text projection's kind", config.text_projection.kind, "linear", "none")
    need("centre of the text projection", config.text_projection.centre, False)
    need("the text tower's activation", text.activation, *({"quick_gelu"} if image.activation == "quick_gelu" else {"gelu", "gelu_tanh"}))
    need("the image tower's activation", image.activation, "gelu", "gelu_tanh", "quick_gelu")
    vision_cfg = _side(image) | {"image_size": list(image.image_size), "patch_size": image.patch, "head_width": image.width // image.heads}
    if image.image_size[0] == image.image_size[1]:
        vision_cfg["image_size"] = image.image_size[0]
    vision_cfg |= {"pool_type": {ours: theirs for theirs, ours in POOL.items()}[image.pool]}
    vision_cfg |= {"no_ln_pre": True} if not image.norm_pre else {}
    vision_cfg |= {"final_ln_after_pool": True} if image.norm_last == "pooled" else {}
    text_cfg = _side(text) | {"context_length": text.context, "vocab_size": text.vocab, "heads": text.heads, "pool_type": text.pool}
    text_cfg |= {"pad_id": text.pad_id} if text.pad_id else {}
    text_cfg |= {"eos_id": text.eos_id} if text.eos_id is not None else {}
    text_cfg |= {"no_causal_mask": True} if not text.causal else {}
    text_cfg |= {"proj_bias": True} if config.text_projection.bias else {}
    text_cfg |= {"proj_type": "none"} if config.text_projection.kind == "none" else {}
    model_cfg: dict[str, Any] = {"embed_dim": config.embed_dim, "vision_cfg": vision_cfg, "text_cfg": text_cfg}
    model_cfg |= {"quick_gelu": True} if image.activation == "quick_gelu" else {}
    model_cfg |= {"init_logit_bias": config.init_bias} if model.bias is not None else {}
    return {"model_cfg": model_cfg, "preprocess_cfg": _write_preprocess(config.preprocess, need)}


def _write_preprocess(preprocess: Preprocess, need: Any) -> dict[str, Any]:
    back = {ours: theirs for theirs, ours in RESIZE.items()}
    need("preprocess.resize", preprocess.resize, *back)
    same_fill = len(set(preprocess.fill)) == 1
    return {
        "size": list(preprocess.size),
        "mode": "RGB",
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "interpolation": preprocess.interpolation,
        "resize_mode": back[preprocess.resize],
        "fill_color": preprocess.fill[0] if same_fill else list(preprocess.fill),
    }
