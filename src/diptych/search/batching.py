"""Dynamic batching: single requests of many callers, worked on together by the one thread that owns the model.

Nobody waits for a batch to fill. While the thread is busy, items gather; when it is free it takes what is there, at most ``batch`` of the
kind whose first item is oldest. A lone item starts at once, and under load batches grow by themselves.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from diptych.core.errors import DiptychError

Work = Callable[[Sequence[Any]], Any]  # a list of items to as many answers: a list, or an array with a row each
MEMORY = 0.2  # the newest batch's share in the running mean of seconds an item


class Busy(DiptychError):
    """The queue is full. ``retry_after``: whole seconds after which there is likely room."""

    def __init__(self, waiting: int, retry_after: int) -> None:
        super().__init__("server", f"it is busy, {waiting} items wait", f"Try again in {retry_after} s")
        self.retry_after = retry_after


class Stopping(DiptychError):
    """The batcher takes nothing new, since it is being closed."""

    def __init__(self) -> None:
        super().__init__("server", "it is stopping", "Try again when it is back")


@dataclass(slots=True, eq=False)
class _Job:
    """What one caller asked for: its items, its answers so far, and the promise of them."""

    kind: str
    items: Sequence[Any]
    answers: list[Any] = field(default_factory=list)
    left: int = 0
    promise: Future[list[Any]] = field(default_factory=Future)


@dataclass(slots=True)
class _Item:
    """One item of one job."""

    job: _Job
    place: int
    since: float
    alone: bool = False


@dataclass(slots=True)
class Counts:
    """What has been done so far, by kind."""

    items: int = 0
    batches: int = 0
    seconds: float = 0.0
    sizes: dict[int, int] = field(default_factory=dict)
    pace: float = 0.0  # running mean of seconds an item


class Batcher:
    """Batches items by kind and works on them in one thread.

    Args:
        works: by kind, the function from a list of items to as many answers, in their order. All run in the same thread.
        batch: most items worked on together.
        queue: most items that wait; more are refused with :class:`Busy`.
        patience: seconds. A caller who would wait longer than this, at the present pace, is refused too.
    """

    def __init__(self, works: Mapping[str, Work], batch: int = 32, queue: int = 512, patience: float = math.inf) -> None:
        self.works, self.batch, self.queue, self.patience = dict(works), batch, queue, patience
        self.counts = {kind: Counts() for kind in works}
        self._waiting: dict[str, deque[_Item]] = {kind: deque() for kind in works}
        self._busy = self._closing = False
        self._lock = threading.Condition()
        self._thread = ThreadPoolExecutor(1, "model")

    @property
    def waiting(self) -> int:
        """Items that wait for the thread."""
        return sum(map(len, self._waiting.values()))

    def submit(self, kind: str, items: Sequence[Any]) -> Future[list[Any]]:
        """Queue ``items``; all of them or none are taken.

        Returns:
            A future of the answers in the items' order. Cancelling it takes the items that still wait out of the queue.

        Raises:
            Busy: there is no room, or the wait would be too long.
            Stopping: :meth:`close` was called.
        """
        job = _Job(kind, items, [None] * len(items), len(items))
        if not items:
            job.promise.set_result([])
            return job.promise
        now = time.monotonic()
        with self._lock:
            if self._closing:
                raise Stopping
            waiting, wait = self.waiting, self._wait()
            if waiting and (waiting + len(items) > self.queue or wait > self.patience):
                raise Busy(waiting, max(1, math.ceil(wait)))
            self._waiting[kind].extend(_Item(job, place, now) for place in range(len(items)))
            batch = None if self._busy else self._next()
            self._busy = self._busy or batch is not None
        if batch is not None:
            self._start(batch)
        return job.promise

    def close(self) -> None:
        """Take nothing new, answer everything that was accepted, and end the thread."""
        with self._lock:
            self._closing = True
            self._lock.wait_for(lambda: not self._busy)
        self._thread.shutdown()

    def _wait(self) -> float:
        """Seconds until what waits now will have been worked on, at the present pace."""
        return sum(len(items) * self.counts[kind].pace for kind, items in self._waiting.items())

    def _next(self) -> list[_Item] | None:
        """The next batch, or None when nothing waits; the lock is held. Items of a job that is over are dropped."""
        for items in self._waiting.values():
            while items and items[0].job.promise.done():
                items.popleft()
        heads = [items for items in self._waiting.values() if items]
        if not heads:
            return None
        source = min(heads, key=lambda items: items[0].since)
        taken = [source.popleft()]
        while source and len(taken) < self.batch and not taken[0].alone and not source[0].alone:
            item = source.popleft()
            if not item.job.promise.done():
                taken.append(item)
        return taken

    def _start(self, batch: list[_Item]) -> None:
        self._thread.submit(self._timed, batch).add_done_callback(lambda done: self._finish(batch, done))

    def _timed(self, batch: list[_Item]) -> Any:
        """The work on one batch, in the model's thread."""
        kind = batch[0].job.kind
        start = time.monotonic()
        answers = self.works[kind]([item.job.items[item.place] for item in batch])
        if len(answers) != len(batch):
            raise DiptychError(f"work {kind}", f"{len(answers)} answers for {len(batch)} items", "Give one answer an item")
        spent, counts = time.monotonic() - start, self.counts[kind]
        counts.items += len(batch)
        counts.batches += 1
        counts.seconds += spent
        counts.sizes[len(batch)] = counts.sizes.get(len(batch), 0) + 1
        counts.pace += (spent / len(batch) - counts.pace) * (MEMORY if counts.batches > 1 else 1.0)
        return answers

    def _finish(self, batch: list[_Item], done: Future[Any]) -> None:
        """Start the next batch and hand each answer to its own job. After an error each item is tried alone: only its own job fails."""
        error = done.exception()
        again = error is not None and len(batch) > 1
        with self._lock:
            if again:
                self._waiting[batch[0].job.kind].extendleft(_Item(i.job, i.place, i.since, alone=True) for i in reversed(batch))
            following = self._next()
            self._busy = following is not None
            self._lock.notify_all()
        if following is not None:
            self._start(following)
        if not again:
            self._deliver(batch, error, None if error else done.result())

    def _deliver(self, batch: list[_Item], error: BaseException | None, answers: Any) -> None:
        for place, item in enumerate(batch):
            job = item.job
            if job.promise.done():
                continue
            if answers is not None:
                job.answers[item.place] = answers[place]
                job.left -= 1
            if (error is not None or not job.left) and job.promise.set_running_or_notify_cancel():
                job.promise.set_exception(error) if error is not None else job.promise.set_result(job.answers)
