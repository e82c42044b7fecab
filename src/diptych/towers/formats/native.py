"""The native model folder: everything that decides the output, and a golden embedding that shows it still does.

``config.json`` towers, projections, scale, tokenizer settings · ``model.safetensors`` weights · ``tokenizer.json`` ·
``preprocess.json`` · ``golden.safetensors`` rows of a fixed picture and fixed texts · ``card.md``.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from diptych.core.errors import DiptychError, UsageError, nearest
from diptych.data.tokenizers import Tokenizer
from diptych.towers.base import count_parameters
from diptych.towers.dual import DualConfig, DualEncoder
from diptych.towers.encode import evaluating, pixels
from diptych.towers.formats.weights import assign, distinct, read_json, read_tensors, write_folder, write_json, write_tensors

VERSION = 1
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
TOLERANCE = {"float32": 5e-5, "float16": 1e-4, "bfloat16": 1e-4}
GOLDEN_TEXTS = ("a photo of a cat", "Crème brûlée &amp; 2 apples!", "a red bus, on the left of three small houses")

GOLDEN_LABELS = ("a cat", "a bus", "an apple")


def golden_picture(size: tuple[int, int]) -> np.ndarray:
    """A fixed uint8 picture (H, W, 3), larger than ``size`` and of another aspect, so that resizing is part of what it checks."""
    height, width = size[0] * 5 // 4 + 1, size[1] * 3 // 2 + 1
    y, x, c = np.ogrid[:height, :width, :3]
    return ((x * y * (c + 1) // 16 + 3 * x + 2 * y * (c + 2) + 60 * c) % 256).astype(np.uint8)


def _golden_ids(model: DualEncoder) -> Tensor:
    """Ids of the fixed texts; a pattern of ids where the model has no tokenizer."""
    if model.tokenizer is not None:
        return model.tokenizer(GOLDEN_TEXTS)
    vocab = getattr(model.config.text, "vocab", 2)
    return (torch.arange(2)[:, None] * 31 + torch.arange(model.text.context)[None] * 7 + 1) % vocab


def golden(model: DualEncoder) -> dict[str, Tensor]:
    """Rows of the fixed picture and texts, and the ids of the texts."""
    with evaluating(model):
        ids_BL = _golden_ids(model)
        picture_CHW = pixels(golden_picture(model.config.preprocess.size), model.config.preprocess)
        image_BD = model.image_features(picture_CHW[None].to(model.device)).float().cpu()
        text_BD = model.text_features(ids_BL.to(model.device)).float().cpu()
        made = {"image": image_BD, "text": text_BD, "ids": ids_BL, "picture": picture_CHW}
        if model.head is not None:
            made["head"] = model.head(image_BD.to(model.device)).float().cpu()
        if model.rule is not None:
            labels = model.rule.classes or GOLDEN_LABELS
            given = image_BD if model.rule.config.reads == "rows" else picture_CHW[None]
            made["rule"] = model.rule.answer(model, labels).logits(given.to(model.device)).float().cpu()
        return made


def check_golden(model: DualEncoder, stored: dict[str, Tensor], dtype: str, what: str) -> None:
    """A :class:`DiptychError` naming the part (ids, picture, image or text row) and the size of the difference."""
    now = golden(model)
    mend = "Restore the folder's files as they were saved, or save the model again if the change is meant"
    parts = {"ids": "tokenizer", "picture": "preprocess.json", "image": "image tower", "text": "text tower"}
    parts |= {name: name for name in ("head", "rule") if getattr(model, name) is not None}
    for name, source in parts.items():
        ours, theirs = now[name].double(), stored[name].double()
        off = float((ours - theirs).abs().max()) if ours.shape == theirs.shape else float("inf")
        allowed = {"ids": 0.0, "picture": 1.0}.get(name, TOLERANCE[dtype])
        if name in ("head", "rule"):
            allowed *= max(1.0, float(theirs.abs().max()))
        if not off <= allowed:
            raise DiptychError(
                what, f"its golden {name} differ by {off:.2g} (allowed {allowed:g}), so the {source} gives other output", mend
            )


def _card(model: DualEncoder) -> str:
    """A few true lines about the model."""
    config = model.config
    height, width = config.preprocess.size
    lines = [
        f"# {config.name}",
        "",
        f"- image tower: {config.image.kind}, {count_parameters(model.image):,} parameters, {height} × {width} px",
        f"- text tower: {config.text.kind}, {count_parameters(model.text):,} parameters, {model.text.context} tokens",
        f"- joint space: {config.embed_dim} dimensions, {count_parameters(model):,} parameters in all",
        f"- made from: {config.parent or 'nothing (trained from scratch or imported)'}",
    ]
    return "\n".join(lines) + "\n"


def save_native(
    model: DualEncoder, folder: str | Path, dtype: Literal["float32", "float16", "bfloat16"] = "float32", card: str = ""
) -> Path:
    """Write a native folder in one step (temporary name, fsync, rename).

    Args:
        dtype: matrices are stored so; vectors and scalars stay float32. Loading upcasts; the golden rows are those of upcast weights.
        card: text of ``card.md``; "" writes a few facts, or keeps the card that is there.

    Raises:
        DiptychError: the folder holds something else, a weight is not finite or too large for float16, or the disk refuses.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r}", "weights cannot be stored so", nearest(dtype, DTYPES))
    folder = Path(folder)
    weights = {}
    for name, value in distinct(model).items():
        narrow = value.is_floating_point() and value.ndim > 1
        weights[name] = value.detach().float().cpu().to(DTYPES[dtype]) if narrow else value.detach().cpu()
        if not torch.isfinite(weights[name]).all():
            raise DiptychError(f"saving {folder}", f"{name} is not finite as {dtype}", "Save as float32, or find where training diverged")
    stored = DualEncoder(model.config, model.tokenizer)
    assign(stored, weights, f"saving {folder}")

    def fill(target: Path) -> None:
        config = model.config.model_dump(mode="json", exclude={"preprocess", *model.unset()})
        write_json(target / "config.json", {"format": "diptych", "version": VERSION, "dtype": dtype, "model": config})
        write_json(target / "preprocess.json", asdict(model.config.preprocess))
        write_tensors(target / "model.safetensors", weights)
        write_tensors(target / "golden.safetensors", golden(stored))
        if model.tokenizer is not None:
            model.tokenizer.save(target)
        kept = folder / "card.md"
        text = card or (kept.read_text(encoding="utf-8") if kept.is_file() else _card(model))
        (target / "card.md").write_text(text, encoding="utf-8")

    write_folder(folder, fill, owned="config.json")
    return folder


def load_native(folder: str | Path, verify: bool = True) -> DualEncoder:
    """Read a native folder; with ``verify`` its golden embedding must come out again.

    Raises:
        DiptychError: a file is missing or broken, keys or shapes disagree, or the golden embedding differs.
    """
    folder = Path(folder)
    raw = read_json(folder / "config.json")
    if raw.get("version") != VERSION:
        why = f"it is of version {raw.get('version')!r}, this package reads version {VERSION}"
        raise DiptychError(f"model {folder}", why, "Use the package version that wrote it, or save the model again")
    preprocess = read_json(folder / "preprocess.json")
    try:
        config = DualConfig.model_validate({**raw.get("model", {}), "preprocess": preprocess})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DiptychError(f"model {folder}, {where or 'config'}", first["msg"], "Restore config.json and preprocess.json") from error
    model = DualEncoder(config, read_tokenizer(folder, config))
    assign(model, read_tensors(folder / "model.safetensors"), f"model {folder}")
    if verify:
        check_golden(model, read_tensors(folder / "golden.safetensors"), raw.get("dtype", "float32"), f"model {folder}")
    return model.eval()


def read_tokenizer(folder: Path, config: DualConfig) -> Tokenizer | None:
    """The folder's tokenizer with the config's settings; None where the config names none."""
    path = folder / "tokenizer.json"
    if config.tokenizer is None:
        if path.is_file():
            raise DiptychError(f"model {folder}", "it has a tokenizer.json but no tokenizer settings in config.json", "Restore config.json")
        return None
    return Tokenizer.from_file(path, **config.tokenizer.model_dump())
