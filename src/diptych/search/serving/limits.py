"""What one request, and all of them together, may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a server.

    Args:
        batch: most pictures or texts that the model works on together.
        queue: most of them that wait; more are refused with 429.
        body_bytes: largest body of one request.
        held_bytes: most bytes of bodies in memory at once, over all requests; more are refused with 429.
        pixels: largest picture, width times height.
        seconds: longest time from a request's last byte to its answer.
        body_seconds: longest time in which a body must have come in.
    """

    batch: int = 32
    queue: int = 512
    body_bytes: int = 16 << 20
    held_bytes: int = 256 << 20
    pixels: int = 1 << 25
    seconds: float = 30.0
    body_seconds: float = 20.0
