"""The card that every method carries: what it is, where it is published, what it needs, what it claims."""

from __future__ import annotations

from dataclasses import dataclass, field

FAMILIES = (
    "objective",
    "views",
    "tokens",
    "captions",
    "tower",
    "adapt",
    "continual",
    "weights",
    "distil",
    "attack",
    "defend",
    "explain",
    "dense",
    "modal",
    "metric",
    "protocol",
    "filter",
    "study",
)


@dataclass(frozen=True, slots=True)
class Card:
    """Declared as ``CARD`` at the top of a method file; the registry, the docs and the tables read it.

    Args:
        id: the method's name everywhere: registry, recipes, command line, claims (``"siglip"``).
        name: the name as people write it (``"SigLIP"``).
        family: one of :data:`FAMILIES`.
        paper: title and arXiv number or venue.
        where: the place in the paper that defines it (section, equation, algorithm).
        code: the reference code's address, or "" where none is public.
        needs: what the engine must provide: names of taps (``"image.tokens"``), ``"bias"``, ``"labels"``, ``"queue"`` …; with
            ``"pool-instead"`` pictures without labels do where there are no labels.
        blockwise: the value is a plain sum over blocks of columns, so blocks may pass round a ring.
        claim: the claim as published.
        published: the published figure beside which the measured one is printed.
    """

    id: str
    name: str
    family: str
    paper: str
    where: str
    code: str = ""
    needs: frozenset[str] = field(default_factory=frozenset)
    blockwise: bool = False
    claim: str = ""
    published: str = ""

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"card {self.id!r}: family {self.family!r} is not one of {FAMILIES}")
