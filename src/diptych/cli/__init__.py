"""The command line: parses, calls one function, prints."""

from __future__ import annotations


def main() -> None:
    """Entry point of ``diptych`` and of ``python -m diptych``."""
    import sys

    from diptych.cli.app import run

    sys.exit(run(sys.argv[1:]))
