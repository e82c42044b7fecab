"""Evaluation sets: one file a benchmark, found by its ``SET`` or ``SETS``."""
