"""LaCLIP: each time a picture is seen its caption is the original or one of its rewrites, drawn anew.

Paper: Fan et al., "Improving CLIP Training with Language Rewrites", arXiv:2305.20088, section 3: the text augmentation draws evenly
from the original and its M stored rewrites, so the original has 1/(M + 1); M is 4, one rewrite from each of four kinds of examples.
Code: https://github.com/LijieFan/LaCLIP
Relations: nothing of the loss changes, so it goes with every objective; ``data.caption = "random"`` draws among a sample's own captions.

For one sample::

    choices = [caption] + rewrites[caption]
    return choices[int(u * len(choices))]                  # u uniform in [0, 1)

The paper's rewrites come from a language model, once, before training. Here they come from a file (``docs/captions.md``), or from four
rules that need no model (``parts/rules.py``: frame, keyword, reorder, article), each giving one rewrite where it applies. The paper
leaves open what becomes of a caption without rewrites; with a file that is an error unless ``missing`` says to keep the caption.
"""

from __future__ import annotations

import random
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from diptych.captions.parts.files import read_rewrites
from diptych.captions.parts.rules import RULES
from diptych.core.card import Card
from diptych.core.errors import DiptychError, UsageError
from diptych.core.types import Rewriter, Words

CARD = Card(
    id="laclip",
    name="LaCLIP",
    family="captions",
    paper="Improving CLIP Training with Language Rewrites, arXiv:2305.20088",
    where="section 3, the text augmentation that draws evenly from original and rewrites",
    code="https://github.com/LijieFan/LaCLIP",
    claim="rewritten captions as text augmentation raise zero-shot accuracy at no cost in training",
    published="ImageNet zero-shot +8.2 points on CC12M, +2.4 on LAION-400M",
)

Rule = Literal["frame", "keyword", "reorder", "article"]


class Options(BaseModel):
    """Settings of :func:`laclip`.

    Args:
        file: rewrites to draw from (``.jsonl`` or ``.tsv``, see ``docs/captions.md``); None makes them by rules.
        rules: which rules make rewrites; with ``file`` it is not read and must be left out.
        original: probability of the original, in [0, 1]; None is the paper's 1/(M + 1) with M the rewrites that there are.
        missing: a sample that ``file`` does not hold is an ``"error"``, or ``"keep"`` keeps its caption.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    file: str | None = None
    rules: tuple[Rule, ...] | None = Field(default=None, min_length=1)
    original: float | None = Field(default=None, ge=0.0, le=1.0)
    missing: Literal["error", "keep"] = "error"


def choose(caption: str, rewrites: list[str], original: float | None, draw: random.Random) -> str:
    """The caption with probability ``original`` (None: 1/(M + 1)), else one of its rewrites, all alike."""
    if not rewrites:
        return caption
    keep = 1 / (len(rewrites) + 1) if original is None else original
    return caption if draw.random() < keep else draw.choice(rewrites)


def laclip(
    *,
    file: str | None = None,
    rules: tuple[Rule, ...] | None = None,
    original: float | None = None,
    missing: Literal["error", "keep"] = "error",
) -> Rewriter:
    """The rewriter; see :class:`Options`.

    Raises:
        UsageError: both ``file`` and ``rules``, or a file that cannot be read.
    """
    if file is not None:
        if rules is not None:
            raise UsageError("laclip", "file and rules exclude one another", "Leave out one of them")
        return _from_file(file, original, missing)
    if missing == "keep":
        raise UsageError("laclip", "missing is about a file of rewrites, and none is given", "Give file, or leave out missing")
    used = [RULES[name] for name in rules or RULES]

    def by_rules(words: Words, draw: random.Random) -> str:
        made = [rule(words, draw) for rule in used]
        return choose(words.caption, [text for text in made if text and text != words.caption], original, draw)

    return by_rules


def _from_file(file: str, original: float | None, missing: str) -> Rewriter:
    """Rewrites of a caption are looked up by the caption itself, else by the sample's id."""
    by_caption, by_id = read_rewrites(file)

    def from_file(words: Words, draw: random.Random) -> str:
        found = by_caption.get(words.caption) or by_id.get(words.id)
        if found is None and missing == "error":
            why = f"it has no rewrites of sample {words.id!r}, by id or by caption {words.caption[:60]!r}"
            raise DiptychError(f"rewrites {file}", why, "Add them, or set data.rewrite.options.missing=keep")
        return choose(words.caption, found or [], original, draw)

    return from_file
