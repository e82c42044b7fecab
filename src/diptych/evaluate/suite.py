"""Suites: which protocols run on which embedded sets. Each protocol says so itself, in its ``SUITES``; nothing is listed here.

``SUITES = {"quick": ("pictograms/zero-shot",), "full": (…)}``: on data that the user gives, a protocol that names the suite runs wherever
it applies; without data it runs on the sets that it names there.
"""

from __future__ import annotations

from types import ModuleType

from diptych.core import registry
from diptych.core.errors import UsageError, nearest

NAMES = ("quick", "full")


def modules() -> list[ModuleType]:
    """Every protocol, in the order in which they run and are shown."""
    found = [entry.load() for entry in registry.entries() if entry.family == "protocol"]
    return sorted(found, key=lambda module: (module.ORDER, module.CARD.id))


def check(name: str) -> None:
    """A :class:`UsageError` where there is no suite called ``name``."""
    if name not in NAMES:
        raise UsageError(f"suite {name!r}", "no suite of that name", nearest(name, NAMES))


def members(name: str) -> list[ModuleType]:
    """The protocols of a suite."""
    check(name)
    return [module for module in modules() if name in module.SUITES]


def sets(name: str) -> dict[str, tuple[str, ...]]:
    """The embedded sets of a suite, in order, each with the ids of its protocols."""
    found: dict[str, list[str]] = {}
    for module in members(name):
        for one in module.SUITES[name]:
            found.setdefault(one, []).append(module.CARD.id)
    return {one: tuple(protocols) for one, protocols in found.items()}
