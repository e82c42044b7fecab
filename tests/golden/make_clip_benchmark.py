"""Makes ``clip_benchmark/``: features with structure, and what CLIP_benchmark's own metric functions say of them.

Run where CLIP_benchmark is installed: ``python tests/golden/make_clip_benchmark.py``. Made with clip_benchmark 1.6.2, torch 2.14.1 and
numpy 2.3.5 (with numpy 2.4 it stops with an error). Its evaluation functions run whole, on a model that looks up stored rows. Its linear
probe asks for a GPU; here its layers and tensors stay on the CPU.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from clip_benchmark.metrics import linear_probe, zeroshot_classification, zeroshot_retrieval
from safetensors.torch import save_file
from torch import Tensor

HERE = Path(__file__).parent / "clip_benchmark"
WIDTH, CLASSES, TEMPLATES, PICTURES, CAPTIONED = 16, 12, 3, 240, 70


class Rows:
    """A model and tokenizer: pictures are row numbers, texts are ``"text 7"``."""

    def __init__(self, image_ND: Tensor, text_MD: Tensor) -> None:
        self.image_ND, self.text_MD = image_ND, text_MD

    def __call__(self, texts: list[str]) -> Tensor:
        return torch.tensor([int(text.split()[-1]) for text in texts])

    def encode_image(self, index: Tensor) -> Tensor:
        return self.image_ND[index]

    def encode_text(self, index: Tensor) -> Tensor:
        return self.text_MD[index]


class Batches(list[Any]):
    """Batches that know their classes, as its data loaders do."""

    dataset = SimpleNamespace(classes=[f"class {k}" for k in range(CLASSES)])


def zero_shot(generator: torch.Generator) -> tuple[dict[str, Tensor], dict[str, float]]:
    label_N = torch.randint(CLASSES, (PICTURES,), generator=generator) ** 2 // CLASSES  # uneven classes
    centre_KD = torch.randn(CLASSES, WIDTH, generator=generator)
    image_ND = centre_KD[label_N] + 1.3 * torch.randn(PICTURES, WIDTH, generator=generator)
    noise = torch.randn(CLASSES * TEMPLATES, WIDTH, generator=generator)
    text_MD = centre_KD.repeat_interleave(TEMPLATES, 0) + 0.8 * noise
    model = Rows(image_ND, text_MD)
    batches = Batches(zip(torch.arange(PICTURES).split(50), label_N.split(50), strict=True))
    prompts = {str(k): [f"text {k * TEMPLATES + p}" for p in range(TEMPLATES)] for k in range(CLASSES)}
    told = zeroshot_classification.evaluate(model, batches, model, list(prompts), prompts, "cpu", amp=False)
    return {"image_ND": image_ND, "text_MD": text_MD, "label_N": label_N}, told


def retrieval(generator: torch.Generator) -> tuple[dict[str, Tensor], dict[str, float]]:
    count_N = torch.randint(1, 6, (CAPTIONED,), generator=generator)
    owner_M = torch.arange(CAPTIONED).repeat_interleave(count_N)
    image_ND = torch.randn(CAPTIONED, WIDTH, generator=generator)
    text_MD = image_ND[owner_M] + 2.2 * torch.randn(len(owner_M), WIDTH, generator=generator)
    model = Rows(image_ND, text_MD)
    words = [[f"text {m}" for m in (owner_M == n).nonzero()[:, 0].tolist()] for n in range(CAPTIONED)]
    batches = [(torch.arange(CAPTIONED)[i : i + 32], words[i : i + 32]) for i in range(0, CAPTIONED, 32)]
    told = zeroshot_retrieval.evaluate(model, batches, model, "cpu", amp=False, recall_k_list=[1, 5, 10])
    return {"image_ND": image_ND, "text_MD": text_MD, "owner_M": owner_M}, told


class Anywhere(str):
    """The name of a device that also says it is a GPU."""

    def __eq__(self, other: object) -> bool:
        return other == "cuda" or str.__eq__(self, other)  # type: ignore[arg-type]

    __hash__ = str.__hash__


def probe(generator: torch.Generator, found: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float]]:
    torch.nn.Module.cuda = torch.Tensor.cuda = lambda self: self  # type: ignore[method-assign]
    seen = []
    infer = linear_probe.infer
    linear_probe.infer = lambda *a: seen.append(infer(*a)) or seen[-1]
    model = torch.nn.Module()
    model.encode_image = lambda image: image  # type: ignore[assignment]
    rows, label_N = found["image_ND"], found["label_N"]
    train = [(rows[:160], label_N[:160])]
    test = [(rows[160:], label_N[160:])]
    with tempfile.TemporaryDirectory() as folder:
        told = linear_probe.evaluate(model, train, test, -1, 32, 0, 0.1, 10, "rows", 0, folder, Anywhere("cpu"), normalize=True, amp=False)
    logit_NK, target_N = seen[-1]
    return {"logit_NK": logit_NK, "target_N": target_N}, {k: told[k] for k in ("lp_acc1", "lp_acc5", "lp_mean_per_class_recall")}


def main() -> None:
    generator = torch.Generator().manual_seed(20)
    tensors: dict[str, Tensor] = {}
    expected: dict[str, Any] = {}
    classes, expected["zero_shot"] = zero_shot(generator)
    pairs, expected["retrieval"] = retrieval(generator)
    logits, expected["probe"] = probe(generator, classes)
    for task, found in (("zero_shot", classes), ("retrieval", pairs), ("probe", logits)):
        tensors |= {f"{task}.{name}": rows.contiguous() for name, rows in found.items()}
    HERE.mkdir(exist_ok=True)
    save_file(tensors, HERE / "rows.safetensors")
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
