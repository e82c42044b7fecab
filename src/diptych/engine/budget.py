"""How far a run is: by steps, samples, epochs or the clock."""

from __future__ import annotations

import math
import time

from diptych.engine.run import BudgetConfig


class Budget:
    """Counts what is spent.

    Args:
        config: the budget.
        batch: rows of one step over all ranks.
        epoch_samples: samples of one epoch over all ranks.
    """

    def __init__(self, config: BudgetConfig, batch: int, epoch_samples: int) -> None:
        self.batch, self.seconds_limit = batch, config.seconds
        self.steps_limit: int | None = config.steps
        if config.samples is not None:
            self.steps_limit = math.ceil(config.samples / batch)
        if config.epochs is not None:
            self.steps_limit = max(1, math.floor(config.epochs * epoch_samples / batch))
        self.step, self._before, self._began = 0, 0.0, time.monotonic()

    def start(self, step: int = 0, seconds: float = 0.0) -> None:
        """Start the clock; ``step`` and ``seconds`` are what an earlier part of the run has spent."""
        self.step, self._before, self._began = step, seconds, time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds spent, earlier parts of the run included."""
        return self._before + time.monotonic() - self._began

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, 0 to 1."""
        if self.steps_limit is not None:
            return min(self.step / self.steps_limit, 1.0)
        assert self.seconds_limit is not None  # one of the two is always set
        return min(self.seconds / self.seconds_limit, 1.0)

    @property
    def step_share(self) -> float:
        """Share of the budget that one step takes; by the clock, the mean of the steps so far, and before them a thousandth."""
        if self.steps_limit is not None:
            return 1.0 / self.steps_limit
        return self.progress / self.step if self.step else 1e-3

    @property
    def spent(self) -> bool:
        """Whether the run ends here."""
        return self.progress >= 1.0

    @property
    def seconds_left(self) -> float | None:
        """An estimate from the rate so far; None before the first step."""
        progress = self.progress
        if self.seconds_limit is not None:
            return max(self.seconds_limit - self.seconds, 0.0)
        return self.seconds * (1.0 - progress) / progress if progress > 0 else None
