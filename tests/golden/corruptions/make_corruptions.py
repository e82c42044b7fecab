"""Makes ``published.npz``: what the published code makes of one picture, at three sizes and all severities.

Not part of the tests; run once, in an environment of its own with numpy, scipy, scikit-image, opencv-python, pillow and setuptools < 80
(for ``imagecorruptions``, whose pure-numpy twin of ImageMagick's motion blur is used instead of ImageMagick itself):

    git clone https://github.com/hendrycks/robustness
    pip install imagecorruptions
    python make_corruptions.py robustness

The functions are taken from ``ImageNet-C/create_c`` as they stand; only names that newer libraries have dropped are supplied. Before each
call ``numpy.random.seed(SEED)`` is set, so that the test can draw the same numbers. Impulse noise (its library draws from a generator of
its own) and frost (photographs) are left out. Kept is a piece of 16 × 16 pixels at the upper border.
"""

from __future__ import annotations

import ast
import sys
import types
from io import BytesIO
from pathlib import Path

import numpy as np

SEED = 7
FILES = {32: "make_cifar_c.py", 64: "make_tinyimagenet_c.py", 224: "make_imagenet_c.py"}
NAMES = (
    "gaussian_noise", "shot_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow", "fog", "brightness", "contrast",
    "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip


def picture(side: int) -> np.ndarray:
    """uint8 ``(side, side, 3)`` in whole numbers alone: slopes, a disk, fine checks, a black and a white corner."""
    y, x = np.mgrid[:side, :side]
    red, green = 255 * x // (side - 1), 255 * y // (side - 1)
    blue = np.where((x // 3 + y // 3) % 2, 200, 40)
    disk = (2 * x - side) ** 2 + (2 * y - side) ** 2 < (side * side) // 3
    image = np.stack([red, np.where(disk, 255 - green, green), blue], 2)
    image[: side // 8, : side // 8] = 0
    image[: side // 8, -(side // 8) :] = 255
    return image.astype(np.uint8)


def piece(image: np.ndarray) -> np.ndarray:
    """16 × 16 pixels at the upper border, half a side from the left one."""
    side = image.shape[0]
    return image[:16, side // 2 : side // 2 + 16]


def published(path: Path) -> dict:
    """The functions of one published file."""
    import cv2
    from PIL import Image
    from scipy.ndimage import map_coordinates, zoom

    gone = types.ModuleType("scipy.ndimage.interpolation")
    gone.map_coordinates = map_coordinates
    sys.modules[gone.__name__] = gone
    from imagecorruptions.corruptions import _motion_blur
    from skimage.filters import gaussian

    def blurred(image, sigma, multichannel=False, **options):
        return gaussian(image, sigma=sigma, channel_axis=-1 if multichannel else None, **options)

    class MotionImage:
        def __init__(self, blob):
            self.array = np.asarray(Image.open(BytesIO(blob)))

        def motion_blur(self, radius, sigma, angle):
            self.array = np.clip(np.round(_motion_blur(self.array, radius, sigma, angle)), 0, 255).astype(np.uint8)

        def make_blob(self):
            array = self.array if self.array.ndim == 2 else self.array[..., ::-1]
            return cv2.imencode(".png", array)[1].tobytes()

    numpy = types.SimpleNamespace(**{name: getattr(np, name) for name in dir(np) if not name.startswith("_")})
    numpy.float_, numpy.fromstring = np.float64, lambda data, dtype: np.frombuffer(data, dtype)

    def from_array(array, mode=None):
        return Image.fromarray(array)

    pil = types.SimpleNamespace(BOX=Image.Resampling.BOX, open=Image.open, fromarray=from_array)
    space = {
        "np": numpy, "cv2": cv2, "gaussian": blurred, "map_coordinates": map_coordinates, "scizoom": zoom, "BytesIO": BytesIO,
        "PILImage": pil, "MotionImage": MotionImage,
    }  # fmt: skip
    import skimage.color

    space["sk"] = types.SimpleNamespace(color=skimage.color)
    wanted = {*NAMES, "disk", "plasma_fractal", "clipped_zoom"}
    tree = ast.parse(path.read_text())
    body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in wanted]
    exec(compile(ast.Module(body, []), str(path), "exec"), space)
    return space


def main(folder: Path) -> None:
    from PIL import Image

    found = {}
    for side, name in FILES.items():
        functions = published(folder / "ImageNet-C" / "create_c" / name)
        for corruption in NAMES:
            for severity in range(1, 6):
                np.random.seed(SEED)  # noqa: NPY002 (the published code draws from it)
                made = functions[corruption](Image.fromarray(picture(side)), severity)
                found[f"{side}/{corruption}/{severity}"] = piece(np.uint8(made))
    np.savez_compressed(Path(__file__).with_name("published.npz"), **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
