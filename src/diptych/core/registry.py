"""Finds methods by scanning folders for ``CARD``: no import list, no if-chain, no enum.

A file is a method when its syntax tree assigns ``CARD`` at the top level; only the file that is asked for is imported,
so listing two hundred methods costs no torch import.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from diptych.core.card import Card
from diptych.core.errors import UsageError, nearest

PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Entry:
    """One method file: its id, family and dotted module name."""

    id: str
    family: str
    module: str

    def load(self) -> ModuleType:
        """Import the method's file (only now)."""
        return importlib.import_module(self.module)

    @property
    def function(self) -> Any:
        """The method's function, which is named as its id with ``_`` for ``-`` (imports its file)."""
        return getattr(self.load(), self.id.replace("-", "_"))

    def make(self, options: Mapping[str, Any], device: Any) -> Any:
        """What the method's function makes of ``options``; a function that draws takes the ``device`` to draw on."""
        draws = "device" in inspect.signature(self.function).parameters
        return self.function(**options, **({"device": device} if draws else {}))

    @property
    def card(self) -> Card:
        """The method's card (imports its file)."""
        return self.load().CARD


def _card_fields(path: Path) -> tuple[str, str] | None:
    """``(id, family)`` read from the syntax tree of one file, or None when it declares no ``CARD``."""
    text = path.read_text(encoding="utf-8")
    if "CARD" not in text:
        return None
    for node in ast.parse(text).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        named = any(isinstance(t, ast.Name) and t.id == "CARD" for t in targets)
        if named and isinstance(node.value, ast.Call):  # type: ignore[union-attr]
            keys: dict[str, Any] = {
                k.arg: k.value.value
                for k in node.value.keywords  # type: ignore[union-attr]
                if k.arg in ("id", "family") and isinstance(k.value, ast.Constant)
            }
            return keys["id"], keys["family"]
    return None


@functools.cache
def entries() -> tuple[Entry, ...]:
    """Every method of the package, sorted by family and id. Raises ``ValueError`` when two files carry one id."""
    found: dict[tuple[str, str], Entry] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.is_relative_to(PACKAGE / "core") or (fields := _card_fields(path)) is None:
            continue
        identity, family = fields
        module = ".".join(("diptych", *path.relative_to(PACKAGE).with_suffix("").parts))
        if (family, identity) in found:
            raise ValueError(f"{module} and {found[family, identity].module} both declare {family} {identity!r}")
        found[family, identity] = Entry(identity, family, module)
    return tuple(sorted(found.values(), key=lambda entry: (entry.family, entry.id)))


def find(identity: str, *families: str) -> Entry:
    """The method ``identity`` out of ``families``; a :class:`UsageError` names the nearest known one."""
    members = {entry.id: entry for entry in entries() if entry.family in families}
    if identity not in members:
        raise UsageError(f"{families[0]} {identity!r}", "no method of that name", nearest(identity, members))
    return members[identity]
