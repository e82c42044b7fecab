"""Settings by name: unknown keys told with the nearest known one, and a method's options checked against its file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

import yaml
from pydantic import BaseModel, ValidationError

from diptych.core import registry
from diptych.core.errors import UsageError, nearest

OBJECTIVES = ("objective", "views")  # families of what is minimised


class Yaml(yaml.SafeLoader):
    """YAML in which only ``true`` and ``false`` are truth values, as in YAML 1.2: ``precision: off`` is the word."""


Yaml.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:bool"]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Yaml.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def read_yaml(text: str) -> Any:
    """Plain values out of YAML. Raises ``yaml.YAMLError``."""
    return yaml.load(text, Loader=Yaml)


class Named(Protocol):
    """A method by the id of its card, with options."""

    @property
    def name(self) -> str: ...

    @property
    def options(self) -> Mapping[str, Any]: ...


def check_keys(model: type[BaseModel], values: Mapping[str, Any], prefix: str, parts: Mapping[str, type[BaseModel]]) -> None:
    """A :class:`UsageError` with the nearest name for the first key that ``model`` does not have, at any depth.

    Args:
        parts: the model of each part that has settings of its own, by dotted name.
    """
    for key, value in values.items():
        if key not in model.model_fields:
            raise UsageError(f"setting {prefix + str(key)!r}", "no such setting", nearest(str(key), model.model_fields))
        inner = parts.get(f"{prefix}{key}")
        if inner is not None and isinstance(value, Mapping):
            check_keys(inner, value, f"{prefix}{key}.", parts)


def check_options(family: str, identity: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a method, checked against the ``Options`` of its file, defaults filled in. Raises :class:`UsageError`."""
    families = OBJECTIVES if family == "objective" else (family,)
    model = registry.find(identity, *families).load().Options
    check_keys(model, options, f"{family}.options.", {})
    try:
        return model.model_validate(dict(options)).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{family}.options.{'.'.join(map(str, first['loc']))}"
        raise UsageError(f"setting {where}", f"{first['msg']} (it was {first['input']!r})", f"Mend {where}") from error


def options_of(family: str, config: Named) -> dict[str, Any]:
    """All options of the method that ``config`` names, defaults filled in."""
    return check_options(family, config.name, config.options)
