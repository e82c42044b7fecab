"""Errors a person can act on: what happened, why, and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DiptychError(Exception):
    """Something failed while running. The command line prints it as one line and exits with 1.

    Args:
        what: what happened, naming the file, argument or module.
        why: the cause, with the figures that show it.
        mend: what to do about it, as something the reader can type or change.
    """

    exit_code = 1

    def __init__(self, what: str, why: str, mend: str) -> None:
        super().__init__(what, why, mend)
        self.what, self.why, self.mend = what, why, mend

    def __str__(self) -> str:
        return f"{self.what}: {self.why}. {self.mend}{'' if self.mend.endswith('?') else '.'}"

    def as_dict(self) -> dict[str, dict[str, str]]:
        """The stable form that ``--json`` prints on standard error."""
        return {"error": {"what": self.what, "why": self.why, "mend": self.mend}}


class UsageError(DiptychError):
    """The call itself is off (unknown name, wrong key, impossible combination). Exit code 2."""

    exit_code = 2


def nearest(word: str, known: Iterable[str]) -> str:
    """``"did you mean 'lr'?"`` or the whole list when nothing is near; for the ``mend`` of an error."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}"
