"""How fast a model encodes on this machine, and what it weighs."""

from __future__ import annotations

import platform
import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from diptych.core.types import Sample

SENTENCE = "a drawing of a red apple beside a blue house"


def measure(model: Any, samples: Sequence[Sample], captions: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Time one pass over ``samples`` (decoding included) and as many different texts, after a pass that warms up.

    Returns:
        ``images_per_s``, ``texts_per_s``, ``measured`` (how many of each), ``image_parameters``, ``text_parameters``, ``parameters``,
        ``peak_memory_bytes`` (of the whole process so far), ``device``, ``threads``, ``machine``. Parameters are left out where the
        model is no torch module.
    """
    texts = [text for row in captions[: len(samples)] for text in row][: len(samples)]
    texts = list(dict.fromkeys([*texts, *(f"{SENTENCE} {i}" for i in range(len(samples)))]))[: len(samples)]
    model.encode_image(samples[:2])
    model.encode_text(texts[:2])
    start = time.perf_counter()
    model.encode_image(samples)
    middle = time.perf_counter()
    model.encode_text(texts)
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    found = {
        "images_per_s": len(samples) / (middle - start),
        "texts_per_s": len(texts) / (end - middle),
        "measured": len(samples),
        "peak_memory_bytes": peak,
        "device": str(getattr(model, "device", "cpu")),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }
    if isinstance(model, nn.Module):
        found["parameters"] = _count(model)
        found |= {f"{side}_parameters": _count(getattr(model, side)) for side in ("image", "text")}
    return found


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
