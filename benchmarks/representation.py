"""Do the representation metrics tell what their papers say? Small encoders trained here on drawings of 24 pixels, minutes on one core.

    OMP_NUM_THREADS=1 python benchmarks/representation.py            # all parts; --part rank, --part robust, --part memory for one

- rank: nine SimCLR encoders (three widths, three temperatures): does the effective rank go with the probe's accuracy, and how good is the
  encoder that it picks? Does the usability risk fall with the width?
- robust: classifiers trained plainly and on PGD pictures: which has layers that are more alike, and which keeps its rows under attack?
- memory: two SimCLR encoders, one trained without the candidates: do candidates score higher than pictures that neither or both saw?
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional

from diptych.core.rng import generator
from diptych.core.types import Preprocess
from diptych.data.augment import Augment, apply, draw
from diptych.evaluate.material import material
from diptych.evaluate.metrics import cka, frequency, memorisation, rank
from diptych.evaluate.protocols.ssl_risk_decomposition import HELD, TEST, TRAIN, decompose
from diptych.towers.encode import pixels

SIDE, BATCH = 24, 256
AUGMENT = Augment(
    crop_area=(0.4, 1.0), crop_ratio=(0.75, 4 / 3), flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grayscale=0.2
)
RADIUS, ATTACK_STEPS = 2 / 255, 2


class Encoder(nn.Module):
    """Four convolutions and a mean; ``layers`` gives what comes out of each, averaged over places."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            sizes = (3, 24, 48, 96, 96)
            strides = (2, 2, 2, 1)
            self.convolutions = nn.ModuleList(
                nn.Conv2d(a, b, 3, stride, 1) for a, b, stride in zip(sizes[:-1], sizes[1:], strides, strict=True)
            )
            self.norms = nn.ModuleList(nn.GroupNorm(8, size) for size in sizes[1:])
            self.out = nn.Linear(sizes[-1], width)

    def layers(self, image_NCHW: Tensor) -> list[Tensor]:
        x, found = image_NCHW * 2 - 1, []
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = functional.relu(norm(convolution(x)))
            found.append(x.mean((2, 3)))
        return [*found, self.out(found[-1])]

    def forward(self, image_NCHW: Tensor) -> Tensor:
        return self.layers(image_NCHW)[-1]


def data(name: str) -> tuple[Tensor, Tensor]:
    """uint8 pictures and labels of an embedded set."""
    found = material(name)
    small = Preprocess((SIDE, SIDE), (0.5,) * 3, (0.5,) * 3)
    return torch.stack([pixels(s, small) for s in found.source]), torch.tensor([int(s.label or 0) for s in found.source])


@torch.no_grad()
def rows(encoder: Encoder, image_NCHW: Tensor) -> Tensor:
    return functional.normalize(torch.cat([encoder(part.float() / 255) for part in image_NCHW.split(512)]), dim=1)


def simclr(image_NCHW: Tensor, width: int, temperature: float, epochs: int, seed: int) -> Encoder:
    """NT-Xent (arXiv:2002.05709, equation 1) on two views, Adam."""
    encoder, stream = Encoder(width, seed), generator(seed, "simclr")
    optimiser = torch.optim.Adam(encoder.parameters(), lr=2e-3)
    for _ in range(epochs):
        for index in torch.randperm(len(image_NCHW), generator=stream).split(BATCH):
            views = [apply(image_NCHW[index], draw(AUGMENT, len(index), stream)).float() / 255 for _ in range(2)]
            row_VD = functional.normalize(encoder(torch.cat(views)), dim=1)
            logits_VV = (row_VD @ row_VD.T / temperature).fill_diagonal_(-torch.inf)
            target_V = torch.arange(len(row_VD)).roll(len(index))
            loss = functional.cross_entropy(logits_VV, target_V)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return encoder.eval()


def classifier(image_NCHW: Tensor, label_N: Tensor, epochs: int, seed: int, robust: bool) -> Encoder:
    """Cross-entropy, in the second half of the epochs on PGD pictures (arXiv:1706.06083) where ``robust``."""
    encoder, stream = Encoder(int(label_N.max()) + 1, seed), generator(seed, "classifier")
    optimiser = torch.optim.Adam(encoder.parameters(), lr=2e-3)
    for epoch in range(epochs):
        for index in torch.randperm(len(image_NCHW), generator=stream).split(BATCH):
            image, label = image_NCHW[index].float() / 255, label_N[index]
            image = attacked(encoder, image, label, stream) if robust and 2 * epoch >= epochs else image
            loss = functional.cross_entropy(encoder(image), label)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return encoder.eval()


def attacked(encoder: Encoder, image: Tensor, label: Tensor, stream: torch.Generator) -> Tensor:
    shift = (torch.rand(image.shape, generator=stream) * 2 - 1) * RADIUS
    for _ in range(ATTACK_STEPS):
        moved = (image + shift).clamp(0, 1).requires_grad_()
        (slope,) = torch.autograd.grad(functional.cross_entropy(encoder(moved), label), moved)
        shift = (shift + RADIUS / 2 * slope.sign()).clamp(-RADIUS, RADIUS)
    return (image + shift).clamp(0, 1).detach()


def rank_part(epochs: int) -> dict[str, object]:
    (train, label), (test, test_label) = data("study/kinds/train"), data("study/kinds")
    order = torch.randperm(len(train), generator=generator(0, "held"))
    table = []
    for width, temperature in product((8, 32, 128), (0.05, 0.5, 5.0)):
        encoder = simclr(train, width, temperature, epochs, 0)
        wrong, _ = decompose(rows(encoder, train), label, rows(encoder, test), test_label, order)
        told = {name: round(float(wrong[which].mean()), 4) for name, which in (("train", TRAIN), ("held", HELD), ("test", TEST))}
        found = rank.effective_rank(rows(encoder, train))
        table.append({"width": width, "temperature": temperature, "rank": round(found, 2), **told})
        print(json.dumps(table[-1]), flush=True)
    ranks, held = (torch.tensor([float(row[key]) for row in table]) for key in ("rank", "held"))
    picked, best = table[int(ranks.argmax())], min(table, key=lambda row: row["held"])
    return {
        "spearman of rank and held accuracy": round(frequency.spearman(torch.stack([ranks, -held], 1)), 3),
        "held risk of the picked, of the best, of the mean": [picked["held"], best["held"], round(float(held.mean()), 4)],
        "usability risk by width": {w: round(sum(r["train"] for r in table if r["width"] == w) / 3, 4) for w in (8, 32, 128)},
    }


def robust_part(epochs: int) -> dict[str, object]:
    (train, label), (test, test_label) = data("study/kinds/train"), data("study/kinds")
    index = torch.randperm(len(test), generator=generator(0, "asked"))[:400]
    image, chosen = test[index].float() / 255, test_label[index]
    found: dict[str, object] = {}
    for seed, robust in product(range(2), (False, True)):
        encoder = classifier(train, label, epochs, seed, robust)
        moved = attacked(encoder, image, chosen, generator(0, "attack"))
        with torch.no_grad():
            clean, after = encoder.layers(image), encoder.layers(moved)
            hit = [(encoder(each).argmax(1) == chosen).float().mean().item() for each in (image, moved)]
        all_AA = cka.matrix(clean)
        cross = (all_AA.sum() - all_AA.diag().sum()) / (len(clean) * (len(clean) - 1))
        kept = [round(cka.cka(a, b), 3) for a, b in zip(clean, after, strict=True)]
        name = f"{'PGD' if robust else 'plain'}, seed {seed}"
        found[name] = {
            "cross-layer CKA": round(float(cross), 3),
            "kept by layer": kept,
            "accuracy clean, attacked": [round(h, 3) for h in hit],
        }
        print(name, json.dumps(found[name]), flush=True)
    return found


def memory_part(epochs: int) -> dict[str, object]:
    train, _ = data("study/kinds/train")
    order = torch.randperm(len(train), generator=generator(0, "candidates"))
    candidate, shared, unseen = order[:200], order[200:400], order[400:600]
    both = order[600:1000]
    scores: dict[str, list[Tensor]] = {"candidates": [], "seen by both": [], "seen by neither": []}
    for seed in range(3):
        with_ = simclr(train[torch.cat([shared, both, candidate])], 64, 0.2, epochs, seed)
        without = simclr(train[torch.cat([shared, both])], 64, 0.2, epochs, seed)
        for name, index in zip(scores, (candidate, shared, unseen), strict=True):
            views = [memorisation.view_of(train[index], 0, str(v), AUGMENT) for v in range(8)]
            losses = [memorisation.alignment_loss(torch.stack([rows(model, view) for view in views])) for model in (with_, without)]
            scores[name].append((losses[1] - losses[0]) / 2)
    found: dict[str, object] = {}
    for name, each in scores.items():
        mean_N = torch.stack(each).mean(0)
        found[name] = {"mean": round(float(mean_N.mean()), 4), "standard error": round(float(mean_N.std() / len(mean_N) ** 0.5), 4)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("rank", "robust", "memory"))
    parser.add_argument("--epochs", type=int, default=None, help="passes over the pictures; each part has its own default")
    args = parser.parse_args()
    parts = {"rank": (rank_part, 4), "robust": (robust_part, 12), "memory": (memory_part, 30)}
    for name, (part, epochs) in parts.items():
        if args.part in (None, name):
            start = time.process_time()
            print(name, json.dumps(part(args.epochs or epochs), indent=1), f"{time.process_time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
