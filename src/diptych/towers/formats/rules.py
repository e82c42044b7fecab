"""Tables between our parameter names and other packages', each row usable in both directions.

A :class:`Rule` names one tensor of ours, the tensors of theirs that hold it, and how the two are laid out. Nothing is left over on
either side: an unknown or missing key is an error that names both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.core.errors import DiptychError
from diptych.towers.formats.weights import check_same


@dataclass(frozen=True, slots=True)
class Rule:
    """One tensor of ours and where others keep it.

    Args:
        ours: our name.
        theirs: their names; several are stacked along the first dimension (queries, keys, values).
        shape: their shape; ours has the same numbers in the same order (a convolution's kernel is our flat row).
        turned: theirs is the transposed matrix.
    """

    ours: str
    theirs: tuple[str, ...]
    shape: tuple[int, ...] | None = None
    turned: bool = False


def same(ours: str, theirs: str, *ends: str) -> list[Rule]:
    """Rules for tensors of one layout: ``ours.weight`` ↔ ``theirs.weight`` for each of ``ends``."""
    return [Rule(f"{ours}.{end}", (f"{theirs}.{end}",)) for end in ends] if ends else [Rule(ours, (theirs,))]


def affine(ours: str, theirs: str) -> list[Rule]:
    """Weight and bias of one layer."""
    return same(ours, theirs, "weight", "bias")


def read(rules: Sequence[Rule], tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], what: str) -> dict[str, Tensor]:
    """Their tensors as ours, float32.

    Args:
        shapes: shapes of our tensors, by our names; layouts and sizes are checked against them.

    Raises:
        DiptychError: a key too many or too few, or a shape that the config does not give; both sides are named.
    """
    check_same(tensors, [name for rule in rules for name in rule.theirs], what, "the config's model")
    ours: dict[str, Tensor] = {}
    for rule in rules:
        parts = [tensors[name] for name in rule.theirs]
        value = torch.cat(parts) if len(parts) > 1 else parts[0]
        wanted = rule.shape or (shapes[rule.ours][::-1] if rule.turned else shapes[rule.ours])
        if tuple(value.shape) != tuple(wanted):
            why = f"{', '.join(rule.theirs)} has shape {tuple(value.shape)}, its config asks for {tuple(wanted)}"
            raise DiptychError(what, why, "Use weights and config of the same model")
        ours[rule.ours] = (value.T if rule.turned else value.reshape(shapes[rule.ours])).float()
    return ours


def write(rules: Sequence[Rule], ours: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """Our tensors as theirs. Raises :class:`DiptychError` when the format has no place for one of ours."""
    check_same(ours, [rule.ours for rule in rules], what, "the format")
    theirs: dict[str, Tensor] = {}
    for rule in rules:
        value = ours[rule.ours].detach()
        value = value.T if rule.turned else value.reshape(rule.shape or value.shape)
        parts = value.chunk(len(rule.theirs)) if len(rule.theirs) > 1 else (value,)
        theirs.update(zip(rule.theirs, parts, strict=True))
    return theirs
