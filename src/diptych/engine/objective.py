"""A run's objective, ready for the engine: its function, its heads and state, and what it wants of loader and towers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from diptych.core import registry
from diptych.core.errors import UsageError
from diptych.core.registry import Entry
from diptych.core.rng import seed_for
from diptych.core.types import Loss, Pairs
from diptych.data.material import Material
from diptych.engine.options import OBJECTIVES, options_of
from diptych.engine.run import Run

BOTH = frozenset({"image", "text"})
COPIES = frozenset({"ema", "teacher"})


class Function(nn.Module):
    """An objective that is a function and nothing else."""

    def __init__(self, entry: Entry, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.function, self.options = entry.function, dict(options)

    def forward(self, pairs: Pairs) -> Loss:
        return self.function(pairs, **self.options)


@dataclass(frozen=True, slots=True)
class Objective:
    """What the engine knows of an objective.

    Args:
        method: called with :class:`Pairs`; its ``rows`` (where it has one) with :class:`See`.
        taps: taps of the towers that it asks for.
        uses: which unit rows are computed, out of ``image`` and ``text``.
        columns: names of per-row tensors that are gathered from all ranks.
        needs: ``ema`` and ``teacher``, where asked for.
        blockwise: blocks of columns may pass round a ring.
        exact_in_parts: a gradient cache gives the same gradient.
    """

    id: str
    method: nn.Module
    taps: frozenset[str] = frozenset()
    uses: frozenset[str] = BOTH
    columns: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    blockwise: bool = False
    exact_in_parts: bool = True
    texts: frozenset[str] = field(default=frozenset())

    def __call__(self, pairs: Pairs) -> Loss:
        return self.method(pairs)

    @property
    def rows(self) -> Any:
        """The method's ``rows``, or None."""
        return getattr(self.method, "rows", None)


def entry_of(run: Run) -> Entry:
    """The registry's entry of the run's objective."""
    return registry.find(run.objective.name, *OBJECTIVES)


def build_objective(run: Run, model: Any, device: torch.device) -> Objective:
    """The run's objective on ``device``; its heads' first values come from the run's seed."""
    entry = entry_of(run)
    module, options = entry.load(), options_of("objective", run.objective)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(run.seed, "objective"))
        made = module.Method(model, module.Options(**options)) if hasattr(module, "Method") else Function(entry, options)
    needs = module.CARD.needs
    return Objective(
        id=entry.id,
        method=made.to(device).train(),
        taps=frozenset(need for need in needs if "." in need),
        uses=getattr(module, "USES", BOTH),
        columns=getattr(module, "COLUMNS", frozenset()),
        needs=needs & COPIES,
        blockwise=module.CARD.blockwise,
        exact_in_parts=getattr(module, "MICRO", True),
        texts=frozenset(name for name in getattr(module, "EXTRA", {}) if name.startswith("text.")),
    )


def build_material(run: Run) -> Material:
    """What the objective wants of every row, the run's further views and its rewriter."""
    module = entry_of(run).load()
    views = getattr(module, "VIEWS", ())
    if run.data.views is not None:
        if len(run.data.views) != len(views):
            raise UsageError(
                "data.views", f"objective {run.objective.name!r} takes {len(views)} views, the run has {len(run.data.views)}", "Mend it"
            )
        views = run.data.views
    rewrite = None
    if run.data.rewrite is not None:
        rewrite = registry.find(run.data.rewrite.name, "captions").function(**options_of("captions", run.data.rewrite))
    return Material(rewrite, dict(getattr(module, "EXTRA", {})), tuple(views))


def tokens_need(run: Run) -> frozenset[str]:
    """Which copies of the model the run's token method looks at."""
    return frozenset() if run.tokens is None else registry.find(run.tokens.name, "tokens").card.needs & COPIES


def wants_words(run: Run) -> bool:
    """Whether the run reads captions at all: not where the objective looks at pictures only."""
    module = entry_of(run).load()
    return "text" in getattr(module, "USES", BOTH) or bool(getattr(module, "EXTRA", {}))


def frozen_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose weights are not trained."""
    return copy.deepcopy(model).eval().requires_grad_(False)


class Follower:
    """A copy of the model that follows it: ``a ← m·a + (1 − m)·w`` after each step; buffers are taken over."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.copy = model, frozen_copy(model)
        live = dict(model.named_parameters())
        names = [name for name, _ in self.copy.named_parameters() if live[name].requires_grad]
        self.average = {name: p for name, p in self.copy.named_parameters() if name in names}

    @torch.no_grad()
    def update(self, momentum: float) -> None:
        """Take in the weights as they are now."""
        live = dict(self.model.named_parameters())
        torch._foreach_lerp_(list(self.average.values()), [live[name].detach() for name in self.average], 1.0 - momentum)
        for mine, theirs in zip(self.copy.buffers(), self.model.buffers(), strict=True):
            mine.copy_(theirs)


def momentum_of(objective: Objective, tokens: Any, progress: float) -> float:
    """The decay of the average copy: the objective's, else the token method's.

    Raises:
        UsageError: neither says one.
    """
    for asked in (objective.method, tokens):
        if (momentum := getattr(asked, "momentum", None)) is not None:
            return momentum(progress)
    raise UsageError(f"objective {objective.id!r}", "it needs an average of the model and says no momentum", "Define momentum(progress)")
