"""A pool of gloo ranks that lives for the whole test session, so that each test pays no process start."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def _serve(rank: int, world: int, store: str, pipe: Connection) -> None:
    """One rank: take (function, arguments), answer (True, result) or (False, traceback), until None comes."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world))
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=timedelta(seconds=60))
    while (job := pipe.recv()) is not None:
        function, args = job
        try:
            pipe.send((True, function(*args)))
        except Exception:
            pipe.send((False, traceback.format_exc()))
    dist.destroy_process_group()


class Pool:
    """``pool(function, *args)`` runs ``function(*args)`` on every rank and gives the list of results.

    The function must be importable (top level of a test module) and return plain values or numpy arrays. After a failure
    the ranks may be out of step, so the pool is closed and the next call starts new ones.
    """

    def __init__(self, world: int = 2) -> None:
        self.world = world
        self._ranks: list[tuple[Any, Connection]] = []

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        store = str(Path(tempfile.mkdtemp(prefix="gloo-")) / "store")
        for rank in range(self.world):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, self.world, store, theirs), daemon=True)
            process.start()
            self._ranks.append((process, ours))

    def __call__(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        if not self._ranks:
            self._start()
        for _, pipe in self._ranks:
            pipe.send((function, args))
        answers = []
        for rank, (_, pipe) in enumerate(self._ranks):
            if not pipe.poll(120):
                self.close()
                raise TimeoutError(f"rank {rank} gave no answer to {function.__name__} in 120 seconds")
            answers.append(pipe.recv())
        failed = [f"rank {rank}:\n{text}" for rank, (fine, text) in enumerate(answers) if not fine]
        if failed:
            self.close()
            raise AssertionError("\n".join(failed))
        return [result for _, result in answers]

    def close(self) -> None:
        """End the ranks: politely, then by force."""
        for process, pipe in self._ranks:
            if process.is_alive():
                try:
                    pipe.send(None)
                except OSError:
                    process.kill()
        for process, _ in self._ranks:
            process.join(5)
            if process.is_alive():
                process.kill()
        self._ranks.clear()
