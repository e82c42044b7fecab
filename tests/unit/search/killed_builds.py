"""Builds an index in a process of its own for each line ``FOLDER OUT SECONDS`` on standard input, and kills it after so many seconds.

Everything slow is imported once; each build is a fork. One line is answered for each: ``killed`` or ``done``.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import diptych
from diptych.search import build as module

model = diptych.load("mini")
module.CHUNK = 6


def child(folder: str, out: str) -> None:
    embed = model.encode_image

    def counted(images, **options):
        rows = embed(images, **options)
        with open(f"{out}.log", "a") as log:
            log.write(f"{len(images)}\n")
        time.sleep(0.05)
        return rows

    object.__setattr__(model, "encode_image", counted)
    module.build(folder, out, model)
    os._exit(0)


print("ready", flush=True)
for line in sys.stdin:
    folder, out, seconds = line.rstrip("\n").split("\t")
    process = os.fork()
    if process == 0:
        try:
            child(folder, out)
        finally:
            os._exit(3)
    ends = time.monotonic() + float(seconds)
    ended = (0, 0)
    while ended[0] == 0 and time.monotonic() < ends:
        ended = os.waitpid(process, os.WNOHANG)
        time.sleep(0.002)
    if ended[0] == 0:
        os.kill(process, signal.SIGKILL)
        ended = os.waitpid(process, 0)
    print("done" if ended[1] == 0 else "killed" if os.WIFSIGNALED(ended[1]) else "failed", flush=True)
