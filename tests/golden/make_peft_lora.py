"""Writes ``peft_lora.safetensors``: what peft's LoRA layer computes, and merges, with random matrices. Run it where peft is installed.

    python tests/golden/make_peft_lora.py

peft 0.21.2 with torch 2.13.0 wrote the file that is there. Shapes: O 12 outputs, I 8 inputs, R rank, B 5 rows.
"""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear
from safetensors.torch import save_file


def main() -> None:
    draw = torch.Generator().manual_seed(0)
    kept = {}
    for rank, alpha in ((1, 1), (2, 1), (4, 16)):
        base = torch.nn.Linear(8, 12)
        layer = Linear(base, "default", config=LoraConfig(r=rank, lora_alpha=alpha), r=rank, lora_alpha=alpha).eval()
        parts = {
            "weight": base.weight,
            "bias": base.bias,
            "down": layer.lora_A["default"].weight,
            "up": layer.lora_B["default"].weight,
        }
        with torch.no_grad():
            for value in parts.values():
                value.copy_(torch.randn(value.shape, generator=draw))
            x = torch.randn(5, 8, generator=draw)
            made = {**{name: value.detach().clone() for name, value in parts.items()}, "x": x, "y": layer(x)}
            layer.merge()
            made["merged"] = base.weight.detach().clone()
        kept |= {f"{rank}.{alpha}.{name}": value.contiguous() for name, value in made.items()}
    save_file(kept, Path(__file__).with_name("peft_lora.safetensors"))


if __name__ == "__main__":
    main()
