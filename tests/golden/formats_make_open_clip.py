"""Records what open_clip computes for tiny models with random weights, and the ids of its tokenizer.

Run where open_clip is installed (it needs torchvision): ``python tests/golden/formats_make_open_clip.py``. Written with
open_clip_torch 3.3.0, ftfy 6.3.1, torch 2.14.1.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from formats_strings import strings  # noqa: E402

VISION = {"image_size": 24, "layers": 2, "width": 16, "patch_size": 8, "head_width": 8}
TEXT = {"context_length": 10, "vocab_size": 48, "width": 16, "heads": 2, "layers": 2}
SIGLIP_TEXT = {
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
    "act_kwargs": {"approximate": "tanh"},
}
MODELS: dict[str, dict[str, Any]] = {
    "plain": {},
    "quickgelu": {"quick_gelu": True},
    "mean": {"vision_cfg": {"pool_type": "avg", "no_ln_pre": True, "final_ln_after_pool": True}},
    "mean_normed": {"vision_cfg": {"pool_type": "avg"}, "text_cfg": {"pool_type": "eos", "eos_id": 7}},
    "scaled": {
        "vision_cfg": {"image_size": [16, 32], "ls_init_value": 0.1, "mlp_ratio": 2.5, "norm_kwargs": {"eps": 1e-3}},
        "text_cfg": {"ls_init_value": 0.1, "act_kwargs": {"approximate": "tanh"}, "pool_type": "first", "no_causal_mask": True},
    },
    "custom": {"custom_text": True, "init_logit_bias": -10, "text_cfg": SIGLIP_TEXT},
    "custom_plain": {"custom_text": True, "nonscalar_logit_scale": True, "init_logit_bias": -3.0},
}


def config_of(changes: dict[str, Any]) -> dict[str, Any]:
    """The shared tiny config with one model's changes."""
    rest = {key: value for key, value in changes.items() if not key.endswith("_cfg")}
    return {
        "embed_dim": 12,
        "vision_cfg": VISION | changes.get("vision_cfg", {}),
        "text_cfg": TEXT | changes.get("text_cfg", {}),
        **rest,
    }


def record(name: str, changes: dict[str, Any]) -> None:
    """Write ``NAME/open_clip_config.json``, weights, and inputs with what open_clip makes of them."""
    torch.manual_seed(len(name))
    config = config_of(changes)
    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    model = (CustomTextCLIP if config.get("custom_text") else CLIP)(**arguments).eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            if value.ndim and not key.startswith("logit"):
                value.add_(torch.randn_like(value) * 0.3)
        size = config["vision_cfg"]["image_size"]
        height, width = (size, size) if isinstance(size, int) else size
        pixels, ids = torch.randn(4, 3, height, width), torch.randint(1, 48, (5, 10))
        ids[:, -3:] = 0
        ids[torch.arange(5), torch.tensor([2, 3, 4, 5, 6])] = 7
        image, text = model.encode_image(pixels, normalize=True), model.encode_text(ids, normalize=True)
        logits, _ = model.get_logits(pixels, ids)
    folder = HERE / "formats_open_clip" / name
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    outputs = {"pixels": pixels, "ids": ids, "image": image, "text": text, "logits": logits}
    save_file({key: value.contiguous() for key, value in outputs.items()}, folder / "outputs.safetensors")
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "resize_mode": "squash", "interpolation": "bilinear"}
    written = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def record_tokens() -> None:
    """Write ``tokens.json``: for each cleaning the first eight hex digits of sha256 over each string's 77 ids."""
    found = {}
    for clean in ("lower", "whitespace", "canonicalize"):
        rows = SimpleTokenizer(clean=clean)(strings()).to(torch.int32).numpy()
        found[clean] = "".join(hashlib.sha256(row.tobytes()).hexdigest()[:8] for row in rows)
    (HERE / "formats_open_clip" / "tokens.json").write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    print(open_clip.__version__)
    for name, changes in MODELS.items():
        record(name, changes)
    record_tokens()
