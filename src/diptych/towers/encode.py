"""Pictures and words of any usual kind to unit rows, without gradient; the model's mode is as it was afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from diptych.core.errors import UsageError
from diptych.core.rng import seed_for
from diptych.core.types import Preprocess, Sample, TokenMethod

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradient; every module's own mode is restored, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _decoded(image: Any) -> np.ndarray:
    """uint8 (H, W, 3 or 4) of a PIL image or an array."""
    if isinstance(image, Image.Image):
        alpha = "A" in image.getbands() or "transparency" in image.info
        image = np.asarray(image.convert("RGBA" if alpha else "RGB"))
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] in (3, 4):
        return image
    kind = f"{image.dtype} array of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    raise UsageError(
        f"a picture given as {kind}", "not a form that the model reads", "Pass a path, bytes, a PIL image, or a uint8 array (H, W, 3)"
    )


def pixels(image: Any, preprocess: Preprocess) -> Tensor:
    """One picture (path, encoded bytes, PIL image, uint8 array (H, W, 3 or 4), or Sample) as uint8 (3, H, W) at the model's size.

    Raises:
        BrokenImage: it cannot be decoded.
        UsageError: it is none of these.
    """
    from diptych.data.images import load_image
    from diptych.data.transforms import flatten_alpha, preprocess_image

    if isinstance(image, Sample):
        image = image.image
    if isinstance(image, (str, Path, bytes)):
        return load_image(image, preprocess)
    sized_CHW = preprocess_image(_decoded(image), preprocess)
    return flatten_alpha(sized_CHW[None], preprocess.fill)[0]


def as_list(images: Any) -> Sequence[Any]:
    """One picture or many, as a sequence: a str, bytes, Path, Sample, PIL image or three-dimensional array is one."""
    if isinstance(images, (str, Path, bytes, Sample, Image.Image)) or (isinstance(images, np.ndarray) and images.ndim == 3):
        return [images]
    many: Any = images
    return many if hasattr(many, "__len__") and hasattr(many, "__getitem__") else list(many)


def _batches(count: int, size: int, progress: bool, what: str) -> Iterator[slice]:
    steps: Iterable[int] = range(0, count, size)
    if progress:
        from rich.progress import track

        steps = track(steps, description=what, total=-(-count // size))
    for start in steps:
        yield slice(start, min(start + size, count))


def encode_image(
    model: DualEncoder, images: Any, batch_size: int = 64, progress: bool = False, tokens: TokenMethod | None = None
) -> Tensor:
    """Unit rows (N, D) of pictures, float32 on the CPU.

    Args:
        images: one picture or a sequence of them, each as :func:`pixels` reads it; or a tensor (N, 3, H, W), uint8 0–255 or
            float 0–1, already at the model's size.
        progress: show a bar.
        tokens: a token method that needs no training; what it draws is the same at every call.
    """
    items = images if isinstance(images, Tensor) else as_list(images)
    rows: list[Tensor] = []
    if (draws := getattr(tokens, "generator", None)) is not None:
        draws.manual_seed(seed_for(0, "tokens"))
    with evaluating(model):
        for part in _batches(len(items), batch_size, progress, "pictures"):
            if isinstance(items, Tensor):
                batch_BCHW = items[part]
            else:
                batch_BCHW = torch.stack([pixels(items[index], model.config.preprocess) for index in range(part.start, part.stop)])
            rows.append(model.image_features(batch_BCHW.to(model.device), tokens=tokens).float().cpu())
    return torch.cat(rows) if rows else torch.empty(0, model.embed_dim)


def encode_text(model: DualEncoder, texts: str | Iterable[str], batch_size: int = 256, progress: bool = False) -> Tensor:
    """Unit rows (N, D) of texts, float32 on the CPU.

    Equal texts are encoded once; texts of like length share a batch, which a causal tower reads cropped to its longest text.
    """
    if model.tokenizer is None:
        raise UsageError(f"model {model.config.name!r}", "it has no tokenizer", "Give one: DualEncoder(config, tokenizer=…)")
    every = [texts] if isinstance(texts, str) else list(texts)
    index = {text: position for position, text in enumerate(dict.fromkeys(every))}
    if not index:
        return torch.empty(0, model.embed_dim)
    ids_UL = model.tokenizer(list(index))
    length_U = lengths(ids_UL, model.text.pad_id)
    order = torch.argsort(length_U, stable=True)
    rows_UD = torch.empty(len(index), model.embed_dim)
    with evaluating(model):
        for part in _batches(len(order), batch_size, progress, "texts"):
            chosen = order[part]
            ids_BL = ids_UL[chosen]
            if model.text.crops:
                ids_BL = ids_BL[:, : max(int(length_U[chosen].max()), 1)]
            rows_UD[chosen] = model.text_features(ids_BL.to(model.device)).float().cpu()
    return rows_UD[torch.tensor([index[text] for text in every])]


def lengths(ids_BL: Tensor, pad_id: int) -> Tensor:
    """Ids of each row up to the last that is not padding, (B,)."""
    positions_L = torch.arange(1, ids_BL.shape[1] + 1, device=ids_BL.device)
    return ((ids_BL != pad_id) * positions_L).amax(dim=1)
