"""A run with published methods put in by name: ``cloob``, ``slip+random-mask``, ``protoclip+laclip+a-clip``."""

from __future__ import annotations

from collections.abc import Callable

from diptych.core import registry
from diptych.core.errors import UsageError, nearest
from diptych.engine.options import OBJECTIVES
from diptych.engine.run import ObjectiveConfig, RewriteConfig, Run, TokensConfig

KINDS: dict[str, tuple[str, ...]] = {"objective": OBJECTIVES, "tokens": ("tokens",), "captions": ("captions",)}
PUT: dict[str, Callable[[Run, str], Run]] = {
    "objective": lambda run, name: run.model_copy(update={"objective": ObjectiveConfig(name=name)}),
    "tokens": lambda run, name: run.model_copy(update={"tokens": TokensConfig(name=name)}),
    "captions": lambda run, name: run.model_copy(update={"data": run.data.model_copy(update={"rewrite": RewriteConfig(name=name)})}),
}


def kinds_of(name: str) -> list[str]:
    """What a method takes part in: an objective, a token method, a rewriter of captions, or several (``a-clip``)."""
    return [kind for kind, families in KINDS.items() if any(e.id == name and e.family in families for e in registry.entries())]


def known() -> list[str]:
    """Ids of all methods that a run can hold."""
    return sorted({entry.id for entry in registry.entries() if any(entry.family in families for families in KINDS.values())})


def chosen(recipe: str) -> dict[str, str] | None:
    """By kind, the methods that ``recipe`` names, joined by ``+``; None where its first name is no method.

    Raises:
        UsageError: a name after the first is unknown; a method is named twice; two methods are of one kind.
    """
    names = recipe.split("+")
    if not kinds_of(names[0]):
        return None
    found: dict[str, str] = {}
    for index, name in enumerate(names):
        if name in names[:index]:
            raise UsageError(f"recipe {recipe!r}", f"it names {name!r} twice", "Name each method once")
        if not kinds_of(name):
            raise UsageError(f"recipe {recipe!r}", f"{name!r} is no method", nearest(name, known()))
        for kind in kinds_of(name):
            if kind in found and len(kinds_of(name)) == 1 and len(kinds_of(found[kind])) == 1:
                why = f"{found[kind]!r} and {name!r} do not go together: a run has one {SINGULAR[kind]}"
                raise UsageError(f"recipe {recipe!r}", why, "Leave one of them out")
            if kind not in found or len(kinds_of(name)) == 1:  # what is of one kind only takes the place of a part of the other
                found[kind] = name
    return found


SINGULAR = {"objective": "objective", "tokens": "token method", "captions": "rewriter of captions"}


def with_methods(run: Run, recipe: str) -> Run:
    """``run`` with the methods of ``recipe``.

    Raises:
        UsageError: as :func:`chosen`; a method that looks back at the model as it was has nothing trained to look at.
    """
    for kind, name in (chosen(recipe) or {}).items():
        run = PUT[kind](run, name)
    needs = registry.find(run.objective.name, *OBJECTIVES).card.needs
    if "teacher" in needs and run.init.from_ is None and run.init.image_from is None:
        why = "it holds the model to what it knew, and the run starts from nothing"
        raise UsageError(f"objective {run.objective.name!r}", why, "Give a trained model: --from NAME")
    return run
