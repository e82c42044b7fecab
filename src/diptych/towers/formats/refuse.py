"""Checks that a converter makes before it says that two models are the same; every refusal names both sides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from diptych.core.errors import DiptychError, nearest
from diptych.towers.dual import DualEncoder
from diptych.towers.text import TransformerConfig
from diptych.towers.vision import ViTConfig

Config = TypeVar("Config", bound=BaseModel)


def only_keys(found: Mapping[str, Any], known: Iterable[str], what: str) -> None:
    """A :class:`DiptychError` for a key that this package does not know: it might change what the model computes."""
    if unknown := sorted(set(found) - set(known)):
        why = f"{unknown[0]}={found[unknown[0]]!r} is no setting that this package knows"
        raise DiptychError(what, why, f"{nearest(unknown[0], known)}; remove the key if it changes nothing")


def expect(found: Any, allowed: Iterable[Any], key: str, what: str, ours: str = "this package's towers") -> None:
    """A :class:`DiptychError` unless ``found`` is one of ``allowed``."""
    allowed = list(allowed)
    if found not in allowed:
        raise DiptychError(what, f"{key} is {found!r}, {ours} have {' or '.join(map(repr, allowed))}", "Convert another model")


def towers_of(model: DualEncoder, what: str) -> tuple[ViTConfig, TransformerConfig]:
    """The configs of a model of our ViT and text transformer; other towers are a :class:`DiptychError`."""
    image, text = model.config.image, model.config.text
    if not isinstance(image, ViTConfig) or image.kind != "vit":
        raise DiptychError(what, f"the image tower is of kind {image.kind!r}, the format has only 'vit'", "Save it as native")
    if not isinstance(text, TransformerConfig) or text.kind != "transformer":
        raise DiptychError(what, f"the text tower is of kind {text.kind!r}, the format has only 'transformer'", "Save it as native")
    return image, text


def make_config(kind: type[Config], what: str, **settings: Any) -> Config:
    """A config of ``kind``; settings that do not fit one another are a :class:`DiptychError`."""
    try:
        return kind(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise DiptychError(what, f"{'.'.join(map(str, first['loc'])) or 'config'}: {first['msg']}", "Convert another model") from error


class Refusal:
    """Collects what a format cannot express about one model: ``need(name, ours, theirs)``, then raises at the first difference."""

    def __init__(self, what: str, format: str) -> None:
        self.what, self.format = what, format

    def need(self, name: str, ours: Any, *theirs: Any) -> None:
        """``ours`` must be one of ``theirs``."""
        if ours not in theirs:
            why = f"{name} is {ours!r} here, {self.format} has only {' or '.join(map(repr, theirs))}"
            raise DiptychError(self.what, why, "Save it as native, which can hold everything")
