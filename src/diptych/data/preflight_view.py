"""Showing a preflight: a rich page for the terminal, with pictures in half blocks, and a PNG strip for elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from diptych.data.preflight import EDGES, Preflight

COLUMNS = 28
BAR = 32
GAP = 8
LISTED = 5


def render(found: Preflight, *, pictures: bool = True) -> RenderableType:
    """Everything in ``found`` as a rich renderable; ``pictures`` draws the samples with half-block characters."""
    parts: list[RenderableType] = [Text(found.description, style="bold", overflow="fold"), _facts(found)]
    if found.caption_words:
        parts += [Text("\nwords a caption", style="bold"), _histogram(found)]
    if pictures and found.shown:
        parts += [Text(""), _gallery(found)]
    parts += [Text(f"! {line}", style="yellow") for line in found.warnings]
    parts += [Text(f"  {name}: {why}", style="dim") for name, why in found.broken[:LISTED]]
    if len(found.broken) > LISTED:
        parts.append(Text(f"  and {len(found.broken) - LISTED:,} more", style="dim"))
    return Group(*parts)


def _facts(found: Preflight) -> Table:
    """The counts, a line each."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")

    def line(name: str, text: str) -> None:
        table.add_row(name, escape(text))

    line("samples", f"{found.samples:,}" + (f" in {found.classes:,} classes" if found.classes else ""))
    part = (
        "all"
        if found.complete
        else f"a random {found.checked_captions:,} captioned, {found.checked_images:,} decoded; give more seconds for more"
    )
    line("looked at", f"{part} ({found.seconds:.1f} s)")
    if found.captions:
        line("captions", f"{found.captions:,}, {found.mean_words:.1f} words on average, {found.repeated_captions:,} repeated")
    if found.cut is not None:
        line("cut by context", f"{found.cut:.1%} at {found.context} tokens ({found.cut_by})")
    if found.image_sides:
        line("shorter side", "{} / {} / {} px (least, median, most)".format(*found.image_sides))
    line("copied pictures", f"{found.repeated_images:,}")
    line("broken", f"{len(found.broken):,}")
    line("shards", f"{found.shards:,} for {found.readers:,} readers (ranks × workers)")
    return table


def _histogram(found: Preflight) -> Table:
    """Bars by number of words."""
    table = Table(box=None, show_header=False, pad_edge=False)
    most = max(found.caption_words.values())
    for edge, count in found.caption_words.items():
        after = EDGES.index(edge) + 1
        last = EDGES[after] - 1 if after < len(EDGES) else None
        label = f"{edge}+" if last is None else str(edge) if last == edge else f"{edge}–{last}"
        table.add_row(label, "█" * max(1, round(BAR * count / most)), f"{count:,}")
    return table


def _gallery(found: Preflight) -> Table:
    """The samples side by side, ids and captions below."""
    table = Table.grid(padding=(0, 2))
    for _ in found.shown:
        table.add_column(width=COLUMNS, overflow="fold")
    table.add_row(*(half_blocks(one.image_HWC) for one in found.shown))
    table.add_row(*(Text(one.id, style="dim") for one in found.shown))
    table.add_row(*(Text(" / ".join(one.captions[:2]) or "(no caption)") for one in found.shown))
    return table


def half_blocks(image_HWC: np.ndarray, columns: int = COLUMNS) -> Text:
    """A picture as text: each character is two pixels, the upper one its colour and the lower one its ground."""
    height, width = image_HWC.shape[:2]
    scale = columns / max(height, width)
    size = max(1, round(width * scale)), max(2, round(height * scale / 2) * 2)
    small = np.array(Image.fromarray(image_HWC).resize(size, Image.Resampling.BICUBIC))
    text = Text()
    for y in range(0, size[1], 2):
        for x in range(size[0]):
            upper, lower = ("#{:02x}{:02x}{:02x}".format(*small[row, x]) for row in (y, y + 1))
            text.append("▀", style=f"{upper} on {lower}")
        text.append("\n")
    return text


def save_strip(found: Preflight, path: str | Path) -> Path:
    """The samples shown, side by side on white, as a PNG at ``path``; folders are made where they are missing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [one.image_HWC for one in found.shown]
    strip = Image.new("RGB", (sum(i.shape[1] + GAP for i in images) + GAP, max(i.shape[0] for i in images) + 2 * GAP), (255, 255, 255))
    left = GAP
    for image in images:
        strip.paste(Image.fromarray(image), (left, GAP))
        left += image.shape[1] + GAP
    strip.save(path, "PNG")
    return path
