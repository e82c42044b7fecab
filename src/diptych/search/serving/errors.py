"""Every refusal in one form, ``{"error": {"what", "why", "mend"}}``, with the status that fits it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import Request, Response
from starlette.exceptions import HTTPException

from diptych.core.errors import DiptychError, UsageError
from diptych.data.sources.base import BrokenSample
from diptych.search.batching import Busy, Stopping

SHOWN = 160  # characters of a value that an error repeats
WHY = {
    404: ("nothing is served here", "The addresses are listed at /openapi.json"),
    405: ("the address does not take this method", "The addresses and methods are listed at /openapi.json"),
}


class Refused(DiptychError):
    """A request that is not answered. ``status`` is its HTTP status, ``headers`` go with it."""

    def __init__(self, status: int, what: str, why: str, mend: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(what, why, mend)
        self.status, self.headers = status, dict(headers or {})


def status_of(error: DiptychError) -> int:
    """The HTTP status of an error of the package: what a caller can cause is 4xx."""
    if isinstance(error, Refused):
        return error.status
    if isinstance(error, Busy):
        return 429
    if isinstance(error, Stopping):
        return 503
    return 422 if isinstance(error, UsageError | BrokenSample) else 500


def shown(text: Any) -> str:
    """A value as an error may repeat it: short, printable."""
    plain = "".join(letter if letter.isprintable() else " " for letter in str(text))
    return plain if len(plain) <= SHOWN else plain[: SHOWN - 1] + "…"


def as_response(error: DiptychError, path: str = "") -> Response:
    """The answer that tells of an error. Addresses under ``/v1/`` also get ``message`` and ``type``, which OpenAI's clients read."""
    status = status_of(error)
    told = DiptychError(shown(error.what), shown(error.why), shown(error.mend))
    body = told.as_dict()
    if path.startswith("/v1/"):
        kind = "invalid_request_error" if status < 500 else "server_error"
        body["error"] |= {"message": str(told), "type": kind}
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, Busy):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Refused):
        headers |= error.headers
    return Response(json.dumps(body), status, headers, "application/json")


async def on_error(request: Request, error: Exception) -> Response:
    """The handler of the package's own errors."""
    assert isinstance(error, DiptychError)
    return as_response(error, request.url.path)


async def on_http(request: Request, error: Exception) -> Response:
    """The handler of what the framework itself refuses (no such address, wrong method)."""
    assert isinstance(error, HTTPException)
    why, mend = WHY.get(error.status_code, (str(error.detail), "See /openapi.json"))
    path = request.url.path
    return as_response(Refused(error.status_code, f"{request.method} {path}", why, mend, error.headers), path)


async def on_failure(request: Request, error: Exception) -> Response:
    """The handler of what nobody foresaw: 500, with no detail for the caller; the log has the traceback."""
    failed = Refused(500, "server", f"an unexpected {type(error).__name__}", "Look into the server's log", {"Connection": "close"})
    return as_response(failed, request.url.path)


def first_of(errors: Iterable[Mapping[str, Any]]) -> tuple[str, str]:
    """Where and why of the first of pydantic's errors: ``("words.0.text", "String should have at least 1 character")``."""
    first = next(iter(errors))
    why = "there is no such key" if first["type"] == "extra_forbidden" else str(first["msg"]).removeprefix("Value error, ")
    return ".".join(map(str, first["loc"])) or "body", why


def whole_seconds(seconds: float) -> str:
    """A ``Retry-After`` of at least one second."""
    return str(max(1, math.ceil(seconds)))
