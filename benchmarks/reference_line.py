"""Makes the line of reference models that effective robustness on the embedded drawings is read against.

Each model is trained here, on ``pictograms/train`` alone and with nothing done for robustness: a feature of the pixels × a classifier over
all 1,446 names × a share of the training pictures. In distribution are the pictures of ``pictograms/validation`` (trained styles), shifted
those of ``pictograms/zero-shot`` (unseen styles) that show the same concepts. Two minutes on one free core.

    python benchmarks/reference_line.py > src/diptych/evaluate/reference_line.tsv

Features: colour or grey pixels at 8, 16 and 24 px; histograms of gradient directions (9 directions, 4 × 4 or 8 × 8 cells; Dalal and
Triggs, CVPR 2005, with one normalisation over the picture); responses to 96 patches cut from training pictures, rectified and averaged over
4 × 4 cells (Coates, Lee and Ng, AISTATS 2011, with patches instead of k-means). Classifiers: nearest class mean, nearest neighbour, ridge
regression to one-hot labels. Rows are centred and made unit before either of the first two.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from diptych.core.rng import generator
from diptych.core.types import Preprocess, Sample
from diptych.data.images import load_image
from diptych.data.sets.find import find

SIDE = 64
READ = Preprocess((SIDE, SIDE), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "squash")
SHARES = (1.0, 0.3)


def read(samples: list[Sample]) -> tuple[Tensor, Tensor]:
    """Pictures 0–1 and labels."""
    image = torch.stack([load_image(sample.image, READ) for sample in samples]).float() / 255
    return image, torch.tensor([sample.label for sample in samples])


def pixels(image: Tensor, side: int, grey: bool) -> Tensor:
    """Small pictures as vectors."""
    small = F.adaptive_avg_pool2d(image, side)
    return (small.mean(1, keepdim=True) if grey else small).flatten(1)


def directions(image: Tensor, cells: int) -> Tensor:
    """Histograms of gradient directions, weighted by strength."""
    grey = F.pad(image.mean(1, keepdim=True), (1, 1, 1, 1), "replicate")
    dx, dy = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2], grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
    strength, angle = (dx**2 + dy**2).sqrt(), torch.atan2(dy, dx).remainder(torch.pi) / torch.pi * 9
    planes = [strength * (angle.floor().clamp(max=8) == i) for i in range(9)]
    return F.normalize(F.adaptive_avg_pool2d(torch.cat(planes, 1), cells).flatten(1).sqrt(), dim=1)


def patches(image: Tensor, filters: Tensor) -> Tensor:
    """Rectified, averaged responses to patches."""
    return torch.cat([F.adaptive_avg_pool2d(F.conv2d(part, filters, stride=2).relu(), 4).flatten(1) for part in image.split(256)])


def cut(image: Tensor, count: int, side: int) -> Tensor:
    """Patches of random training pictures, without mean, unit."""
    stream = generator(0, "reference patches")
    which = torch.randint(len(image), (count,), generator=stream)
    place = torch.randint(8, SIDE - side - 8, (count, 2), generator=stream)
    made = torch.stack([image[i, :, y : y + side, x : x + side] for i, (y, x) in zip(which.tolist(), place.tolist(), strict=True)])
    made = made + 0.01 * torch.randn(made.shape, generator=stream)
    made = made - made.mean((1, 2, 3), keepdim=True)
    return made / made.flatten(1).norm(dim=1)[:, None, None, None]


def mean_of_class(train: Tensor, label: Tensor, tests: list[Tensor]) -> list[Tensor]:
    """The class whose mean is nearest."""
    total = torch.zeros(int(label.max()) + 1, train.shape[1]).index_add_(0, label, train)
    centre = F.normalize(total, dim=1)
    return [(test @ centre.T).argmax(1) for test in tests]


def neighbour(train: Tensor, label: Tensor, tests: list[Tensor]) -> list[Tensor]:
    """The class of the nearest training picture."""
    return [label[(test @ train.T).argmax(1)] for test in tests]


def ridge(train: Tensor, label: Tensor, tests: list[Tensor], penalty: float = 0.01) -> list[Tensor]:
    """The largest output of a regression to one-hot labels."""
    target = torch.zeros(int(label.max()) + 1, train.shape[1]).index_add_(0, label, train)
    inner = train.T @ train
    weight = torch.linalg.solve(inner + penalty * inner.diagonal().mean() * torch.eye(len(inner)), target.T)
    return [(test @ weight).argmax(1) for test in tests]


def main() -> None:
    """Print name, accuracy in distribution, shifted accuracy."""
    train, validation = list(find("pictograms/train").samples()), list(find("pictograms/validation").samples())
    both = {sample.label for sample in validation}
    shifted = [sample for sample in find("pictograms/zero-shot").samples() if sample.label in both]
    (image, label), (image_v, label_v), (image_s, label_s) = read(train), read(validation), read(shifted)
    filters = cut(image, 96, 8)
    features: dict[str, Callable[[Tensor], Tensor]] = {
        **{f"colour pixels {side}": lambda x, side=side: pixels(x, side, False) for side in (8, 16, 24)},
        **{f"grey pixels {side}": lambda x, side=side: pixels(x, side, True) for side in (8, 16, 24)},
        **{f"gradient directions {cells}": lambda x, cells=cells: directions(x, cells) for cells in (4, 8)},
        "patches 96": lambda x: patches(x, filters),
    }
    print("model\tin_distribution\tshifted")
    for name, feature in features.items():
        rows, tests = feature(image), [feature(image_v), feature(image_s)]
        middle = rows.mean(0)
        rows, tests = F.normalize(rows - middle, dim=1), [F.normalize(test - middle, dim=1) for test in tests]
        for share in SHARES:
            kept = torch.randperm(len(rows), generator=generator(0, "reference share"))[: round(share * len(rows))]
            for classifier in (mean_of_class, neighbour, ridge):
                found = classifier(rows[kept], label[kept], tests)
                right = [float((f == t).double().mean()) for f, t in zip(found, (label_v, label_s), strict=True)]
                what = f"{name}, {classifier.__name__.replace('_', ' ')}, {share:.0%} of train"
                print(f"{what}\t{right[0]:.4f}\t{right[1]:.4f}", flush=True)


if __name__ == "__main__":
    main()
