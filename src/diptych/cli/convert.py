"""``diptych convert``: a model in another format, with the parity shown."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.output import Output
from diptych.cli.verb import verb
from diptych.core.errors import DiptychError, UsageError, nearest

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder

NAME = "convert"
FORMATS = ("native", "open_clip", "huggingface", "openai")
TOLERANCE = {"float32": 1e-5, "float16": 5e-3, "bfloat16": 5e-2}
TEXTS = ("a photo of a cat", "Crème brûlée & 2 apples!", "三 red 🚌 buses", "", "word " * 200)


@verb
def command(
    out: Output,
    model: Annotated[str, typer.Argument(help="Model: a name, a folder, hf:… or open_clip:…", show_default=False)],
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="New folder to write.", show_default=False)],
    to: Annotated[str, typer.Option("--to", help="native, open_clip, huggingface or openai.")] = "native",
    dtype: Annotated[str, typer.Option("--dtype", help="float32, float16 or bfloat16; the last two for native only.")] = "float32",
) -> None:
    """Write a model in another format, load it again, and print how far the two differ."""
    if to not in FORMATS:
        raise UsageError(f"--to {to}", "no format of that name", nearest(to, FORMATS))
    if dtype not in TOLERANCE:
        raise UsageError(f"--dtype {dtype}", "weights cannot be stored so", nearest(dtype, TOLERANCE))
    if dtype != "float32" and to != "native":
        raise UsageError(f"--dtype {dtype}", f"{to} is written in float32", "Leave out --dtype, or write --to native")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"output {folder}", "it exists and is not an empty folder", "Give a new folder")

    from diptych.towers.formats.load import load, save

    before = load(model)
    options = {"dtype": dtype} if to == "native" else {}
    written = save(before, folder, format=to, **options)  # type: ignore[arg-type]
    found = parity(before, load(written))
    worst = max(found.values())
    if not worst <= TOLERANCE[dtype]:
        shutil.rmtree(folder)
        why = f"the reloaded model differs by {worst:.1e}, allowed is {TOLERANCE[dtype]:.0e}; nothing was kept"
        raise DiptychError(f"converting {model} to {to}", why, "Convert to another format, and report this model")
    row = {"model": model, "to": to, "out": str(written), "parity": found, "tolerance": TOLERANCE[dtype]}
    out.result(
        row, f"{to} model in {written}", "reloaded and compared: " + ", ".join(f"{name} {value:.1e}" for name, value in found.items())
    )


def parity(before: DualEncoder, after: DualEncoder) -> dict[str, float]:
    """Largest absolute differences of image rows, text rows and scaled similarities, over 8 pictures of noise and 5 texts.

    A model without tokenizer gets fixed ids. Similarities are in units of the scale of ``before``.
    """
    import torch

    from diptych.core.rng import generator

    stream = generator(0, "parity")
    height, width = before.config.preprocess.size
    pixels_BCHW = torch.randint(0, 256, (8, 3, height, width), generator=stream, dtype=torch.uint8)
    rows = []
    with torch.no_grad():
        for model in (before, after):
            if model.tokenizer is None:
                ids_BL = torch.arange(model.text.context)[None] % 7 + torch.arange(5)[:, None]
            else:
                ids_BL = model.tokenizer(list(TEXTS))
            image_BD, text_ND = model.image_features(pixels_BCHW), model.text_features(ids_BL)
            rows.append((image_BD, text_ND, model.logits(image_BD, text_ND) / before.scale))
    return {name: float((a - b).abs().max()) for name, a, b in zip(("images", "texts", "logits"), *rows, strict=True)}
