"""What every request passes first: its host, its token, the size of its body while it comes in; and the headers every answer gets.

Plain ASGI, so that no body is held here and a refusal costs next to nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException

from diptych.search.serving.errors import Refused, as_response
from diptych.search.serving.limits import Limits
from diptych.search.serving.metrics import Metrics

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

DRAIN_SECONDS = 2.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")
OPEN = ("/", "/app.js", "/style.css", "/icon.svg", "/healthz")  # what needs no token: nothing of the pictures or the model is in them
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]


class TooLarge(HTTPException):
    """Raised out of the reading of a body, through the framework, to :class:`Guard`."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.status, refused.why)
        self.refused = refused


class Guard:
    """The middleware.

    Args:
        app: what it guards.
        limits, metrics: of the server.
        token: what ``Authorization: Bearer …`` has to say; None asks for nothing.
        loopback: the server is bound to this machine only, so that the Host header has to name it: a web page elsewhere that makes its own
            name point here (DNS rebinding) is refused.
        addresses: the addresses that exist, for the counts.
    """

    def __init__(self, app: App, limits: Limits, metrics: Metrics, token: str | None, loopback: bool, addresses: frozenset[str]) -> None:
        self.app, self.limits, self.metrics, self.loopback, self.addresses = app, limits, metrics, loopback, addresses
        self._token = None if token is None else _digest(token.encode())

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, metrics, status = time.monotonic(), self.metrics, 499

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        body = _Body(receive, self.limits, metrics)
        metrics.in_flight += 1
        try:
            refused = self._refusal(scope)
            if refused is None:
                await self.app(scope, body.receive, answer)
            else:
                await body.drain()
                await as_response(refused, scope["path"])(scope, receive, answer)
        finally:
            metrics.in_flight -= 1
            metrics.held_bytes -= body.held
            metrics.note(_method(scope["method"]), self._address(scope["path"]), status, time.monotonic() - start)

    def _refusal(self, scope: MutableMapping[str, Any]) -> Refused | None:
        """Why the request is not even read, or None."""
        headers = dict(scope["headers"])
        if self.loopback and _host(headers.get(b"host", b"")) not in LOOPBACK:
            return Refused(421, "host", "this server answers to this machine's own name only", "Open it as http://127.0.0.1 or localhost")
        if self._token is not None and scope["path"] not in OPEN:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if not (hmac.compare_digest(_digest(given.strip()), self._token) and scheme.lower() == b"bearer"):
                return Refused(
                    401, "token", "it is missing or wrong", "Send the header Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
                )
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self.limits.body_bytes:
            return _too_large(self.limits)
        return None

    def _address(self, path: str) -> str:
        if path in self.addresses:
            return path
        return "/pictures/{id}" if path.startswith("/pictures/") else "other"


class _Body:
    """The body as it comes in: counted, and cut off at the limits."""

    def __init__(self, receive: Receive, limits: Limits, metrics: Metrics) -> None:
        self._receive, self._limits, self._metrics = receive, limits, metrics
        self._until = time.monotonic() + limits.body_seconds
        self._whole = False
        self.held = 0

    async def receive(self) -> Message:
        if self._whole:  # what comes now is only whether the caller is still there
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._until - time.monotonic())):
                message = await self._receive()
        except TimeoutError as error:
            why = f"it did not come in within {self._limits.body_seconds:g} s"
            raise TooLarge(Refused(408, "body", why, "Send it faster, or send less", {"Connection": "close"})) from error
        size = len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        self.held += size
        self._metrics.held_bytes += size
        if self.held > self._limits.body_bytes:
            await self.drain()
            raise TooLarge(_too_large(self._limits))
        if self._metrics.held_bytes > self._limits.held_bytes:
            await self.drain()
            raise TooLarge(
                Refused(429, "server", "too many bytes are in hand", "Try again in 1 s", {"Retry-After": "1", "Connection": "close"})
            )
        return message

    async def drain(self) -> None:
        """Throw away what is still coming, for a while: who is cut off while sending often never reads the answer."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._whole:
                    message = await self._receive()
                    self._whole = not message.get("more_body", False)
        except TimeoutError:
            self._whole = True


def _too_large(limits: Limits) -> Refused:
    return Refused(413, "body", f"it is larger than {limits.body_bytes:,} bytes", "Send less in one request", {"Connection": "close"})


def _digest(secret: bytes) -> bytes:
    """Of one length whatever the secret's, so that comparing takes one time."""
    return hashlib.sha256(secret).digest()


def _host(header: bytes) -> str:
    """The name in a Host header, without its port and brackets."""
    text = header.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if ":" in text else text


def _method(name: str) -> str:
    return name if name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"
