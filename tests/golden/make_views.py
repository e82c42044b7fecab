"""Records what lightly's losses give on random rows, with the gradients of those rows.

Run where lightly is installed (it needs torchvision): ``python tests/golden/make_views.py``. Written with lightly 1.6.0, torch 2.14.1 on a
CPU, everything in float64.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from lightly.loss import BarlowTwinsLoss, NegativeCosineSimilarity, NTXentLoss, VICRegLoss, WMSELoss
from safetensors.torch import save_file
from torch import Tensor

HERE = Path(__file__).resolve().parent / "views"
ROWS, WIDTH, VIEWS, PART = 24, 6, 4, 12


def rows() -> Tensor:
    """Four views (4, 24, 6) of the same rows, each a noisy turn of them, with coordinates of different size."""
    draw = torch.Generator().manual_seed(11)
    common = torch.randn(ROWS, WIDTH, generator=draw, dtype=torch.float64) @ torch.randn(WIDTH, WIDTH, generator=draw, dtype=torch.float64)
    noise = torch.randn(VIEWS, ROWS, WIDTH, generator=draw, dtype=torch.float64)
    return (common + 0.7 * noise) * torch.tensor([0.1, 0.3, 0.5, 0.7, 1.0, 1.5], dtype=torch.float64) + 0.2


def barlow(views: Tensor, weight: float) -> Tensor:
    return BarlowTwinsLoss(lambda_param=weight)(views[0], views[1])


def vicreg(views: Tensor, *weights: float) -> Tensor:
    return VICRegLoss(*weights)(views[0], views[1])


def byol(views: Tensor) -> Tensor:
    """Views 0 and 1 are the predictions, 2 and 3 the targets. lightly has the cosine; the paper's squared distance is 2 + 2 of it."""
    cosine = NegativeCosineSimilarity()
    return (2 + 2 * cosine(views[0], views[3])) + (2 + 2 * cosine(views[1], views[2]))


def w_mse(views: Tensor, count: int, size: int, ridge: float) -> Tensor:
    """lightly draws its sub-batches from torch's own generator; 0 gives the order that is recorded."""
    torch.manual_seed(0)
    loss = WMSELoss(embedding_dim=WIDTH, w_size=size, num_samples=count, eps=ridge, track_running_stats=False)
    return loss(views[:count].reshape(count * ROWS, WIDTH))


CASES = {
    "simclr 0.1": lambda v: NTXentLoss(temperature=0.1)(v[0], v[1]),
    "simclr 0.5": lambda v: NTXentLoss(temperature=0.5)(v[0], v[1]),
    "barlow-twins 0.005": lambda v: barlow(v, 0.005),
    "barlow-twins 0.2": lambda v: barlow(v, 0.2),
    "vicreg 25 25 1": lambda v: vicreg(v, 25.0, 25.0, 1.0),
    "vicreg 1 2 3": lambda v: vicreg(v, 1.0, 2.0, 3.0),
    "byol": byol,
    "w-mse 2 24 0": lambda v: w_mse(v, 2, ROWS, 0.0),
    "w-mse 4 24 0.1": lambda v: w_mse(v, 4, ROWS, 0.1),
    "w-mse 4 12 0": lambda v: w_mse(v, 4, PART, 0.0),
}


def main() -> None:
    views = rows()
    torch.manual_seed(0)
    tensors, losses = {"views": views, "order": torch.randperm(ROWS)}, {}
    for name, case in CASES.items():
        leaf = views.clone().requires_grad_()
        loss = case(leaf)
        loss.backward()
        assert leaf.grad is not None
        losses[name], tensors[f"grad {name}"] = loss.item(), leaf.grad
    HERE.mkdir(exist_ok=True)
    save_file(tensors, HERE / "rows.safetensors")
    (HERE / "losses.json").write_text(json.dumps(losses, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
