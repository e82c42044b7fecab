"""The drawn styles: which package holds each, whose work it is, and whether it may be trained on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Style:
    """One artist's set of drawings.

    Args:
        id: the style's name in keys, captions and tables.
        package: npm package and ``version``, exactly as taken.
        family: drawings that share a design; a split never separates two styles of a family.
        licence: SPDX identifier that the package must declare.
        artwork: the licence that the artists' own repository gives the drawings, where it is not the package's.
        held: never trained on.
        share_alike: its licence binds what is derived, so it does not ship; the user may add it.
        names: ``"label"`` (glyphs carry Unicode labels), ``"firefox"`` (older names) or ``"file"`` (code points as file names).
        old: an edition in whose names some words still meant another thing.
    """

    id: str
    package: str
    version: str
    family: str
    licence: str
    artwork: str = ""
    held: bool = False
    share_alike: bool = False
    names: str = "label"
    old: bool = False


STYLES = (
    Style("noto", "@iconify-json/noto", "1.2.9", "noto", "Apache-2.0"),
    Style("noto-v1", "@iconify-json/noto-v1", "1.2.5", "noto", "Apache-2.0", old=True),
    Style("fluent-flat", "@iconify-json/fluent-emoji-flat", "1.2.6", "fluent", "MIT"),
    Style("fluent-color", "@iconify-json/fluent-emoji", "1.2.7", "fluent", "MIT"),
    Style("fluent-high-contrast", "@iconify-json/fluent-emoji-high-contrast", "1.2.6", "fluent", "MIT"),
    Style("fluent-3d", "@lobehub/fluent-emoji-3d", "1.1.0", "fluent", "MIT", names="file"),
    Style("fxemoji", "@iconify-json/fxemoji", "1.2.2", "fxemoji", "Apache-2.0", "CC-BY-4.0", names="firefox"),
    Style("twemoji", "@iconify-json/twemoji", "1.2.5", "twemoji", "CC-BY-4.0", held=True),
    Style("emojione", "@iconify-json/emojione", "1.2.3", "emojione", "CC-BY-4.0", held=True, old=True),
    Style("emojione-monotone", "@iconify-json/emojione-monotone", "1.2.1", "emojione", "CC-BY-4.0", held=True, old=True),
    Style("openmoji", "@iconify-json/openmoji", "1.2.29", "openmoji", "CC-BY-SA-4.0", share_alike=True),
    Style("emojione-v1", "@iconify-json/emojione-v1", "1.2.3", "emojione", "CC-BY-SA-4.0", held=True, share_alike=True, old=True),
)

TEXT = (("emojibase-data", "17.0.0"), ("emojilib", "4.0.3"))
