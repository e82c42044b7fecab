"""Finds tower files by scanning this folder for ``TOWER``; imports only the one that is asked for."""

from __future__ import annotations

import ast
import functools
import importlib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from diptych.core.errors import UsageError, nearest
from diptych.towers.base import ImageTower, TextTower, TowerConfig


@functools.cache
def towers() -> dict[tuple[str, str], str]:
    """``(side, kind)`` → dotted module of every tower file, read from syntax trees without importing them."""
    found: dict[tuple[str, str], str] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            named = isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "TOWER" for t in node.targets)
            if named and isinstance(node.value, ast.Tuple):  # type: ignore[union-attr]
                kind, side = (item.value for item in node.value.elts[:2] if isinstance(item, ast.Constant))  # type: ignore[union-attr]
                found[str(side), str(kind)] = f"diptych.towers.{path.stem}"
    return found


def tower(side: str, kind: str) -> tuple[type[TowerConfig], type[Any]]:
    """Config class and module class of the tower ``kind`` on ``side`` ("image" or "text"); unknown kinds are a :class:`UsageError`."""
    known = towers()
    if (side, kind) not in known:
        raise UsageError(f"{side} tower {kind!r}", "no tower of that kind", nearest(str(kind), [k for s, k in known if s == side]))
    _, _, config, module = importlib.import_module(known[side, kind]).TOWER
    return config, module


def _parse(side: str, value: Any) -> TowerConfig:
    if isinstance(value, TowerConfig):
        return value
    if not isinstance(value, dict) or "kind" not in value:
        raise UsageError(f"{side} tower config", "it has no 'kind'", f"Known kinds: {sorted(k for s, k in towers() if s == side)}")
    config, _ = tower(side, value["kind"])
    try:
        return config.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or value["kind"]
        mend = nearest(where, config.model_fields) if first["type"] == "extra_forbidden" else f"Mend {side}.{where}"
        raise UsageError(f"{side} tower {value['kind']!r}, {where}", first["msg"], mend) from error


def parse_image_config(value: Any) -> TowerConfig:
    """A dict with ``kind`` (or a ready config) as the image tower's frozen config. Raises :class:`UsageError`."""
    return _parse("image", value)


def parse_text_config(value: Any) -> TowerConfig:
    """A dict with ``kind`` (or a ready config) as the text tower's frozen config. Raises :class:`UsageError`."""
    return _parse("text", value)


def build_image_tower(config: TowerConfig) -> ImageTower:
    """A freshly initialised image tower."""
    return tower("image", config.kind)[1](config)


def build_text_tower(config: TowerConfig) -> TextTower:
    """A freshly initialised text tower."""
    return tower("text", config.kind)[1](config)
