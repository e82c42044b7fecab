"""The seal on test pictures: what fits, chooses or calibrates must not have seen what is measured on.

A set that is declared sealed may not be fitted on at all; and whatever is fitted on is compared with the test set by content (the hash of
each encoded picture), so that a copy under another name is found too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

from diptych.core.errors import UsageError
from diptych.core.types import Sample
from diptych.data.sources.base import MAX_IMAGE_BYTES

SHOWN = 3


class SealedError(UsageError):
    """Something was to be fitted on pictures that it will be measured on."""


def content(sample: Sample) -> str | None:
    """The hash of a sample's encoded picture; None where its file cannot be read (nothing can be fitted on it either)."""
    if isinstance(sample.image, bytes):
        return sha256(sample.image).hexdigest()
    try:
        with open(sample.image, "rb") as file:
            return sha256(file.read(MAX_IMAGE_BYTES)).hexdigest()
    except OSError:
        return None


def check(
    fitted: Sequence[Sample], tested: Iterable[Sample] = (), what: str = "the labelled pictures", *, sealed: bool | None = None
) -> None:
    """Nothing, or :class:`SealedError` where ``fitted`` is a sealed set or shares a picture with ``tested``.

    Args:
        fitted: samples that something is to be fitted, chosen or calibrated on; a ``Dataset`` says itself whether it is sealed.
        tested: the samples of the test set.
        what: how the error names ``fitted``.
        sealed: ``fitted`` is a sealed set; None asks it.
    """
    if sealed if sealed is not None else bool(getattr(fitted, "sealed", False)):
        raise SealedError(what, "it is a sealed test set", "Fit on a training or validation split, and keep this one to measure with")
    known = {key: sample.id for sample in tested if (key := content(sample)) is not None}
    shared = [(sample.id, known[key]) for sample in fitted if (key := content(sample)) in known] if known else []
    if shared:
        some = ", ".join(f"{mine} = {theirs}" if mine != theirs else mine for mine, theirs in shared[:SHOWN])
        more = f" and {len(shared) - SHOWN} more" if len(shared) > SHOWN else ""
        raise SealedError(what, f"{len(shared)} of its pictures are test pictures ({some}{more})", "Take them out of one of the two")
