"""Sets on the embedded corpus. Test sets use only styles that nothing here is trained on (twemoji and both emojione).

Zero-shot sets and ``pictograms`` take every drawing of those styles; retrieval sets take twemoji alone, one drawing a concept, so that
every caption has one right picture. ``pictograms/validation`` is apart from all of them: cells of family and concept of the trained styles.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from diptych.data import pictograms, seal
from diptych.data.sets.base import EvalSet

if TYPE_CHECKING:
    from diptych.core.types import Sample
    from diptych.data.pictograms import Concept

VERSION = "1"
LANGUAGES = ("de", "fr", "es", "ru", "zh", "ja", "ko", "hi")
# a bare name and two frames that need no declension
TEMPLATES = {
    "en": ("{}", "a drawing of {}", "an emoji: {}"),
    "de": ("{}", "Zeichnung: {}", "Emoji: {}"),
    "fr": ("{}", "dessin : {}", "émoji : {}"),
    "es": ("{}", "dibujo: {}", "emoji: {}"),
    "ru": ("{}", "рисунок: {}", "эмодзи: {}"),
    "zh": ("{}", "图画：{}", "表情符号：{}"),
    "ja": ("{}", "イラスト：{}", "絵文字：{}"),
    "ko": ("{}", "그림: {}", "이모지: {}"),
    "hi": ("{}", "चित्र: {}", "इमोजी: {}"),
}
GROUPS = {
    "smileys-emotion": "a smiley or an emotion",
    "people-body": "a person or a part of the body",
    "animals-nature": "an animal or a plant",
    "food-drink": "food or a drink",
    "travel-places": "a vehicle, a place or the weather",
    "activities": "a sport, a game or a celebration",
    "objects": "an object",
    "symbols": "a sign or a symbol",
}
KEYWORDS = 5
RECALL_AT = 10


@functools.cache
def _split(name: str) -> tuple[Sample, ...]:
    """The samples of one split, read once."""
    return tuple(pictograms.samples(name))


@functools.cache
def _held() -> tuple[Sample, ...]:
    """All drawings in held styles, sorted by id."""
    return tuple(sorted((*_split("style"), *_split("unseen")), key=lambda sample: sample.id))


@functools.cache
def _fit() -> tuple[Sample, ...]:
    """The training drawings without those that are, pixel for pixel, a test drawing too (a black disc is a black disc in any style)."""
    tested = {seal.content(sample) for sample in _held()}
    return tuple(sample for sample in _split("train") if seal.content(sample) not in tested)


def _names(language: str = "en") -> tuple[str, ...]:
    return tuple(concept.names[language] for concept in pictograms.concepts())


@functools.cache
def _new() -> dict[str, int]:
    """Label among the unseen concepts, by concept id."""
    return {concept.id: i for i, concept in enumerate(c for c in pictograms.concepts() if c.unseen)}


def _unseen_names() -> tuple[str, ...]:
    return tuple(concept.name for concept in pictograms.concepts() if concept.unseen)


def _relabel(samples: Sequence[Sample], label: dict[str, int]) -> list[Sample]:
    """Only the samples whose concept has a label here, with it."""
    return [replace(sample, label=label[sample.concept]) for sample in samples if sample.concept in label]


def _of_group(group: str) -> dict[str, int]:
    return {concept.id: i for i, concept in enumerate(c for c in pictograms.concepts() if c.group == group)}


def _groups(samples: Callable[[], Sequence[Sample]]) -> list[Sample]:
    order = {group: i for i, group in enumerate(GROUPS)}
    return [replace(sample, label=order[sample.meta["group"]]) for sample in samples()]


def captions(concept: Concept, language: str) -> tuple[str, ...]:
    """Captions in one language: the name, the name with keywords, the keywords (English: those of the corpus)."""
    if language == "en":
        return concept.captions
    comma = {"zh": "，", "ja": "、"}.get(language, ", ")
    name, keywords = concept.names[language], concept.keywords[language][:KEYWORDS]
    lines = (name, comma.join((name, *keywords)), comma.join(keywords))
    return tuple(dict.fromkeys(line for line in lines if line))


def _retrieval(language: str) -> list[Sample]:
    """One picture a concept (twemoji), captions of one language; labels are dropped, since this is no classification."""
    concepts = pictograms.concepts()
    one = [sample for sample in _held() if sample.meta["style"] == "twemoji"]
    return [replace(sample, captions=captions(concepts[sample.label], language), label=None) for sample in one if sample.label is not None]


def _zero_shot(
    name: str,
    about: str,
    read_samples: Callable[[], Sequence[Sample]],
    read_classes: Callable[[], tuple[str, ...]],
    language: str = "en",
    sealed: bool = True,
    companions: Mapping[str, str] | None = None,
) -> EvalSet:
    return EvalSet(
        name=f"pictograms{name}",
        version=VERSION,
        about=about,
        read_samples=read_samples,
        read_classes=read_classes,
        templates=TEMPLATES[language],
        language=language,
        tasks=("zero_shot",),
        metric="top1",
        read_chance=lambda: 1 / len(read_classes()),
        sealed=sealed,
        companions=companions or {},
    )


def _retrieval_set(language: str) -> EvalSet:
    suffix = "" if language == "en" else f"-{language}"
    return EvalSet(
        name=f"pictograms/retrieval{suffix}",
        version=VERSION,
        about=f"pictures and captions ({language}) find each other, both ways; one twemoji drawing a concept",
        read_samples=functools.partial(_retrieval, language),
        read_classes=tuple,
        language=language,
        tasks=("retrieval",),
        metric=f"text_to_image_r@{RECALL_AT}",
        read_chance=lambda: RECALL_AT / len(pictograms.concepts()),
        sealed=True,
    )


_ALL = _zero_shot(
    "/zero-shot",
    "which of all concepts, in styles never trained on",
    _held,
    _names,
    companions={"train": "pictograms/fit", "validation": "pictograms/validation", "unknown": "pictograms/unseen"},
)

SETS = (
    replace(
        _ALL, name="pictograms", tasks=("zero_shot", "retrieval"), about="all drawings in styles never trained on: naming and retrieval"
    ),
    _ALL,
    _zero_shot(
        "/unseen", "which of the concepts never trained on, in styles never trained on", lambda: _relabel(_held(), _new()), _unseen_names
    ),
    _zero_shot(
        "/unseen-known-styles",
        "which of the concepts never trained on, in the trained styles",
        lambda: _relabel(_split("concept"), _new()),
        _unseen_names,
    ),
    replace(
        _zero_shot(
            "/groups",
            "which of eight kinds of thing",
            lambda: _groups(_held),
            lambda: tuple(GROUPS.values()),
            companions={"train": "pictograms/groups-train"},
        ),
        templates=("{}", "a drawing of {}"),
    ),
    EvalSet(
        "pictograms/groups-train",
        VERSION,
        "the drawings that are trained on, by eight kinds of thing: to fit on",
        lambda: _groups(_fit),
        lambda: tuple(GROUPS.values()),
        ("{}", "a drawing of {}"),
    ),
    *(
        _zero_shot(
            f"/groups/{group}",
            f"which concept, among {group} alone",
            lambda group=group: _relabel(_held(), _of_group(group)),
            lambda group=group: tuple(c.name for c in pictograms.concepts() if c.group == group),
        )
        for group in GROUPS
    ),
    *(
        _zero_shot(
            f"/zero-shot-{language}", f"which of all concepts, named in {language}", _held, functools.partial(_names, language), language
        )
        for language in LANGUAGES
    ),
    *(_retrieval_set(language) for language in ("en", *LANGUAGES)),
    _zero_shot(
        "/validation",
        "which of all concepts: cells of family and concept kept from training, to choose checkpoints by",
        lambda: _split("validation"),
        _names,
        sealed=False,
    ),
    EvalSet(
        "pictograms/fit",
        VERSION,
        "the training drawings to fit probes and heads on: those that are no test drawing",
        _fit,
        _names,
        TEMPLATES["en"],
    ),
    EvalSet(
        "pictograms/train",
        VERSION,
        "what is trained on: seven styles of three families, without the unseen concepts and the validation cells",
        lambda: _split("train"),
        _names,
        TEMPLATES["en"],
    ),
)
