"""Constants of the 15 common corruptions by severity, as the authors' public code has them for three sizes of picture.

Paper: Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations (arXiv:1903.12261),
section 4.1 and the public code's files for ImageNet-C (224 px), Tiny ImageNet-C (64 px) and CIFAR-10-C (32 px).

The same constant in pixels is a far stronger change of a small picture, so each size has its own table. A picture takes the table whose
size is nearest on a logarithmic scale: below 46 px (the shorter side) CIFAR-10-C's, below 120 px Tiny ImageNet-C's, else ImageNet-C's.
"""

from __future__ import annotations

SEVERITIES = (1, 2, 3, 4, 5)
Constants = tuple[float, ...]


def _rows(*values: float | tuple[float, ...]) -> tuple[Constants, ...]:
    return tuple(value if isinstance(value, tuple) else (value,) for value in values)


IMAGENET_C = {
    "gaussian_noise": _rows(0.08, 0.12, 0.18, 0.26, 0.38),  # standard deviation
    "shot_noise": _rows(60, 25, 12, 5, 3),  # photons at white
    "impulse_noise": _rows(0.03, 0.06, 0.09, 0.17, 0.27),  # share of values replaced
    "defocus_blur": _rows((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),  # radius, blur of the disk's edge
    "glass_blur": _rows((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),  # sigma, reach, rounds
    "motion_blur": _rows((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),  # radius, sigma
    "zoom_blur": _rows((12, 0.01), (16, 0.01), (11, 0.02), (13, 0.02), (11, 0.03)),  # how many zooms, step
    "snow": _rows(  # mean, deviation, zoom, threshold, radius, sigma, share of the picture
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    "frost": _rows((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),  # share of the picture, of the frost
    "fog": _rows((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),  # strength, decay
    "brightness": _rows(0.1, 0.2, 0.3, 0.4, 0.5),  # added to the value of HSV
    "contrast": _rows(0.4, 0.3, 0.2, 0.1, 0.05),  # factor about the mean
    "elastic_transform": _rows(  # displacement, its smoothness, jitter of the corners: shares of the side (244 stands in the code for 224)
        *(
            (a * 244 / 224, b * 244 / 224, c * 244 / 224)
            for a, b, c in ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
        )
    ),
    "pixelate": _rows(0.6, 0.5, 0.4, 0.3, 0.25),  # side that is kept
    "jpeg_compression": _rows(25, 18, 15, 10, 7),  # quality
}
TINY_IMAGENET_C = {
    "gaussian_noise": _rows(0.04, 0.08, 0.12, 0.15, 0.18),
    "shot_noise": _rows(250, 100, 50, 30, 15),
    "impulse_noise": _rows(0.01, 0.02, 0.05, 0.08, 0.14),
    "defocus_blur": _rows((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
    "glass_blur": _rows((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
    "motion_blur": _rows((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
    "zoom_blur": _rows((7, 0.01), (12, 0.01), (16, 0.01), (21, 0.01), (26, 0.01)),
    "snow": _rows(
        (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
    ),
    "frost": _rows((1, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55)),
    "fog": _rows((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
    "brightness": _rows(0.1, 0.2, 0.3, 0.4, 0.5),
    "contrast": _rows(0.4, 0.3, 0.2, 0.1, 0.05),
    "elastic_transform": _rows((0, 0, 0.08), (0.05, 0.3, 0.06), (0.1, 0.08, 0.06), (0.1, 0.03, 0.03), (0.16, 0.03, 0.02)),
    "pixelate": _rows(0.9, 0.8, 0.7, 0.6, 0.5),
    "jpeg_compression": _rows(65, 58, 50, 40, 25),
}
CIFAR_10_C = {
    "gaussian_noise": _rows(0.04, 0.06, 0.08, 0.09, 0.10),
    "shot_noise": _rows(500, 250, 100, 75, 50),
    "impulse_noise": _rows(0.01, 0.02, 0.03, 0.05, 0.07),
    "defocus_blur": _rows((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    "glass_blur": _rows((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "motion_blur": _rows((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    "zoom_blur": _rows((7, 0.01), (12, 0.01), (16, 0.01), (21, 0.01), (26, 0.01)),
    "snow": _rows(
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "frost": _rows((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    "fog": _rows((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "brightness": _rows(0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": _rows(0.75, 0.5, 0.4, 0.3, 0.15),
    "elastic_transform": _rows((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    "pixelate": _rows(0.95, 0.9, 0.85, 0.75, 0.65),
    "jpeg_compression": _rows(80, 65, 58, 50, 40),
}
TABLES = {"CIFAR-10-C": CIFAR_10_C, "Tiny ImageNet-C": TINY_IMAGENET_C, "ImageNet-C": IMAGENET_C}


def table_for(height: int, width: int) -> str:
    """The name in :data:`TABLES` of the constants for a picture of this size."""
    side = min(height, width)
    return "CIFAR-10-C" if side < 46 else "Tiny ImageNet-C" if side < 120 else "ImageNet-C"


def constants(name: str, severity: int, height: int, width: int) -> Constants:
    """What one corruption takes at a severity from 1 to 5, for pictures of this size."""
    return TABLES[table_for(height, width)][name][severity - 1]
