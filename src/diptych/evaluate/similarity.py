"""What the layers of a model make of the same examples, and how alike two models are, layer by layer.

Rows of a layer are the means of its tokens (over the places of a convolution's map), taken by forward hooks that are removed again, also
after an error. Towers of the library are known by their parts: ``embed`` is what goes into the first block, then each block; a tower
without blocks gives its pooled row alone. Shapes: N examples, A and B layers, D widths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.evaluate.metrics import cka
from diptych.evaluate.metrics.bootstrap import Estimate
from diptych.evaluate.metrics.jackknife import grouped

BATCH = 64
ROWS = "rows"


@contextmanager
def watched(blocks: nn.ModuleList, seen: dict[str, list[Tensor]], weigh: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """While open, what goes into the first block and comes out of each is put into ``seen`` by name, as ``weigh`` makes it of tokens."""

    def keep(name: str, x_BTD: Tensor) -> None:
        seen.setdefault(name, []).append(weigh(x_BTD).float().cpu())

    def after(name: str) -> Callable[..., None]:
        return lambda module, given, made: keep(name, made)

    handles = []
    try:
        for index, block in enumerate(blocks):
            if index == 0:
                handles.append(block.register_forward_pre_hook(lambda module, given: keep("embed", given[0])))
            handles.append(block.register_forward_hook(after(f"block {index + 1}")))
        yield
    finally:
        for handle in handles:
            handle.remove()


def image_layers(model: Any, image_NCHW: Tensor, batch: int = BATCH) -> dict[str, Tensor]:
    """Rows of every layer of the image tower, first to last, then the unit rows (``"rows"``): float32 ``N,D`` each, on the CPU.

    Args:
        model: a dual encoder of the library.
        image_NCHW: uint8 or float 0–1 at the model's size.

    Raises:
        UsageError: the model only encodes; it has no tower to look into.
    """
    _check(model, "image_features")
    return _layers(
        model,
        model.image,
        lambda part: model.image_features(
            part.to(model.device), taps=frozenset({"image.tokens"}) if len(model.image.blocks) else frozenset()
        ),
        image_NCHW,
        batch,
        lambda part: lambda x_BTD: x_BTD.mean(1),
    )


def text_layers(model: Any, texts: Sequence[str], batch: int = BATCH) -> dict[str, Tensor]:
    """As :func:`image_layers` for the text tower; padding does not count. Raises also where the model has no tokenizer."""
    _check(model, "text_features")
    if model.tokenizer is None:
        raise UsageError(f"model {model.config.name!r}", "it has no tokenizer", "Give one: DualEncoder(config, tokenizer=…)")
    ids_NL = model.tokenizer(list(texts))
    pad = model.text.pad_id

    def weigh(part_BL: Tensor) -> Callable[[Tensor], Tensor]:
        real_BL1 = (part_BL != pad).to(model.device)[..., None]

        def mean(x_BLD: Tensor) -> Tensor:
            real = real_BL1[:, : x_BLD.shape[1]]
            return (x_BLD * real).sum(1) / real.sum(1).clamp(min=1)

        return mean

    return _layers(
        model,
        model.text,
        lambda part: model.text_features(part.to(model.device), taps=frozenset({"text.tokens"})),
        ids_NL,
        batch,
        weigh,
    )


def _layers(
    model: Any,
    tower: Any,
    forward: Callable[[Tensor], Any],
    items: Tensor,
    batch: int,
    weigh: Callable[[Tensor], Callable[[Tensor], Tensor]],
) -> dict[str, Tensor]:
    from diptych.towers.encode import evaluating

    seen: dict[str, list[Tensor]] = {}
    rows = []
    with evaluating(model):
        for part in items.split(batch):
            with watched(getattr(tower, "blocks", nn.ModuleList()), seen, weigh(part)):
                made = forward(part)
            rows.append((made[0] if isinstance(made, tuple) else made).float().cpu())
    return {**{name: torch.cat(parts) for name, parts in seen.items()}, ROWS: torch.cat(rows)}


def _check(model: Any, needed: str) -> None:
    if not hasattr(model, needed):
        name = getattr(model.config, "name", type(model).__name__)
        raise UsageError(f"model {name!r}", "it only encodes, and its layers cannot be seen", "Take the model itself")


@dataclass(frozen=True, slots=True)
class Similarity:
    """How alike the image towers of two models are.

    Args:
        left, right: the names of their layers, ``"rows"`` last.
        debiased_AB: unbiased CKA of every pair, float64.
        plain_AB: plain linear CKA.
        rows: debiased CKA of the unit rows, with its jackknife interval over pictures.
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    debiased_AB: Tensor
    plain_AB: Tensor
    rows: Estimate


def similarity(model_a: Any, model_b: Any, data: Any, *, limit: int = 256, seed: int = 0) -> Similarity:
    """CKA between all layers of two image towers on the same pictures; each model sees them through its own preprocessing.

    Args:
        model_a, model_b: models, or their names or folders.
        data: what :func:`diptych.evaluate.run.evaluate` takes: a set, a dataset, a name or a path.
        limit: at most this many pictures, drawn by the seed (debiased CKA does not depend on how many, its interval does).

    Raises:
        UsageError: a model only encodes, or there are fewer than 4 pictures.
        BrokenSample: a picture cannot be decoded.
    """
    from diptych.evaluate.material import material
    from diptych.towers.encode import pixels
    from diptych.towers.formats.load import load

    source = material(data).source
    index = torch.randperm(len(source), generator=generator(seed, "similarity"))[:limit].sort().values.tolist()
    samples = [source[i] for i in index]
    layers = []
    for model in (model_a, model_b):
        loaded = model if hasattr(model, "config") else load(str(model))
        layers.append(image_layers(loaded, torch.stack([pixels(sample, loaded.config.preprocess) for sample in samples])))
    left, right = layers
    both = [gram_of(left), gram_of(right)]
    rows = both[0][ROWS], both[1][ROWS]
    kernels = list(both[0].values()), list(both[1].values())
    return Similarity(
        tuple(left),
        tuple(right),
        cka.of_grams(*kernels),
        cka.of_grams(*kernels, debiased=False),
        grouped(lambda i: alike(*rows, i), len(samples), generator(seed, "similarity", "interval"), bounds=(-1.0, 1.0)),
    )


def gram_of(layers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The kernel ``N,N`` of each layer."""
    return {name: cka.gram(rows) for name, rows in layers.items()}


def alike(left_NN: Tensor, right_NN: Tensor, index: Tensor) -> float:
    """Debiased CKA of the examples at ``index`` of two kernels."""
    return float(cka.of_grams([left_NN[index][:, index]], [right_NN[index][:, index]])[0, 0])
