"""The HTTP server under the application: its socket, its patience with slow callers, and its graceful stop."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import signal
import socket
import threading
from asyncio import TimerHandle, Transport, run
from collections.abc import Iterator
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import HANDLED_SIGNALS

from diptych.core.errors import DiptychError
from diptych.search.serving.limits import Limits

BACKLOG = 2048
HEAD_SECONDS = 20  # in which the head of a request has to be in, counted from the connection or the answer before


class Patient(H11Protocol):
    """A connection that is closed when it brings no whole head of a request in time, however slowly it drips."""

    _late: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._late = self.loop.call_later(HEAD_SECONDS, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        if self._late is not None:
            self._late.cancel()
        self._late = self.loop.call_later(HEAD_SECONDS, self._close_if_idle)
        super().on_response_complete()

    def _close_if_idle(self) -> None:
        cycle = cast(Any, self.cycle)
        if (cycle is None or cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """A server that ends by returning when it is told to stop (SIGINT, SIGTERM), rather than by the signal."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {sign: signal.signal(sign, self.handle_exit) for sign in HANDLED_SIGNALS}
        try:
            yield
        finally:
            for sign, handler in before.items():
                signal.signal(sign, handler)


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def bound(host: str, port: int) -> socket.socket:
    """A listening address; port 0 takes a free one. Raises :class:`DiptychError` when it cannot be had."""
    made = None
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)  # from now on callers wait instead of being refused
    except OSError as error:
        if made is not None:
            made.close()
        raise DiptychError(f"address {host}:{port}", f"cannot be bound ({error.strerror})", "Give another --port or --host") from error
    return made


def server(app: FastAPI, limits: Limits) -> Server:
    """The server, not yet running."""
    config = uvicorn.Config(
        app,
        http=Patient,
        ws="none",
        lifespan="on",
        loop="asyncio",
        log_level="warning",
        access_log=False,
        backlog=BACKLOG,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=HEAD_SECONDS,
        timeout_graceful_shutdown=math.ceil(limits.seconds) + 5,
    )
    return Server(config)


def serve(app: FastAPI, limits: Limits, at: socket.socket) -> None:
    """Answer until SIGINT or SIGTERM; then take nothing new, answer what was accepted, and return."""
    run(server(app, limits).serve(sockets=[at]))
