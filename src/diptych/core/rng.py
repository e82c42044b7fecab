"""Explicit random generators: every draw of a run comes from one seed and a name."""

from __future__ import annotations

import hashlib

import torch


def seed_for(seed: int, *names: object) -> int:
    """A 63-bit seed derived from ``seed`` and any names (stream, epoch, rank); stable across machines and versions."""
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *names: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one stream: ``generator(run.seed, "augment", epoch, rank)``."""
    return torch.Generator(device=device).manual_seed(seed_for(seed, *names))
