"""Captions: which words stand in them, how often, and what they speak of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from diptych.adapt.parts.shots import Shots
from diptych.core.errors import DiptychError, UsageError

ARTICLES = frozenset(("a", "an", "the", "some", "any", "its", "their", "his", "her"))
JOINS = frozenset(("and", "or", "with"))
PLACES = frozenset(
    (
        *("of", "in", "on", "at", "to", "by", "from", "for", "near", "beside", "behind", "below", "above", "under", "over", "between"),
        *("into", "onto", "through", "around", "left", "right", "front", "top", "bottom", "next", "side"),
        *("is", "are", "was", "were", "be", "being", "bigger", "smaller", "larger", "than", "while", "that", "which", "who", "as"),
    )
)


def captions_of(path: str | None, shots: Shots) -> Iterable[str]:
    """Lines of the file, or the captions of the labelled pictures where ``path`` is None.

    Raises:
        UsageError: there are none.
        DiptychError: the file cannot be read.
    """
    if path is None:
        if not any(shots.captions):
            raise UsageError("adapt", "there are no captions to count in", "Give captions=FILE, or pictures with captions")
        return [caption for some in shots.captions for caption in some]
    try:
        lines = [line for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DiptychError(f"captions {path}", f"they cannot be read ({error})", "Give a UTF-8 file with one caption a line") from error
    if not lines:
        raise UsageError(f"captions {path}", "the file is empty", "Give a UTF-8 file with one caption a line")
    return lines


def tokens(text: str) -> tuple[str, ...]:
    """Words in lower case, without punctuation."""
    return tuple(re.findall(r"\w+", text.casefold()))


def matches(wanted: set[tuple[str, ...]], sizes: Iterable[int], caption: str) -> set[tuple[str, ...]]:
    """Which of the ``wanted`` runs of words, of ``sizes`` words, are in the caption."""
    words = tokens(caption)
    return {words[i : i + size] for size in sizes for i in range(len(words) - size + 1)} & wanted


def counts(phrases: Iterable[str], captions: Iterable[str]) -> Counter[str]:
    """In how many captions each phrase's words stand in a row."""
    run_of = {phrase: tokens(phrase) for phrase in phrases}
    wanted = set(run_of.values()) - {()}
    sizes, found = {len(run) for run in wanted}, Counter[tuple[str, ...]]()
    for caption in captions:
        found.update(matches(wanted, sizes, caption))
    return Counter({phrase: found[run] for phrase, run in run_of.items()})


def phrases(caption: str) -> tuple[tuple[str, ...], str]:
    """The phrases of a caption, and the words between the first two of them, "" where they only join.

    A phrase is a run of words that are neither articles nor function words; a caption without one is a phrase itself.
    """
    runs: list[tuple[bool, list[str]]] = []
    for word in re.findall(r"[\w'-]+", caption):
        lower = word.casefold()
        if lower in ARTICLES:
            runs.append((False, []))
            continue
        linking = lower in JOINS or lower in PLACES
        if not runs or runs[-1][0] != linking or not runs[-1][1]:
            runs.append((linking, []))
        runs[-1][1].append(word)
    things = [i for i, (linking, words) in enumerate(runs) if words and not linking]
    if not things:
        return (caption,), ""
    between = [word for linking, words in runs[things[0] + 1 : things[1]] if linking for word in words] if len(things) > 1 else []
    relation = "" if all(word.casefold() in JOINS for word in between) else " ".join(between)
    return tuple(" ".join(runs[i][1]) for i in things), relation
