"""Tokenizer files of other packages' model folders: ``tokenizer.json`` and ``tokenizer_config.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diptych.core.errors import DiptychError
from diptych.data.tokenizers import Clean, Tokenizer
from diptych.towers.formats.weights import read_json, write_json


def read_external(folder: Path, context: int, pad_id: int, clean: Clean, what: str) -> Tokenizer:
    """The folder's ``tokenizer.json``; where only its older parts lie there, a :class:`DiptychError` says how to make one."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise DiptychError(
            what,
            f"no tokenizer.json in {folder}",
            "Make one with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
        )
    return Tokenizer.from_file(path, context=context, pad_id=pad_id, clean=clean)


def settings(folder: Path) -> dict[str, Any]:
    """``tokenizer_config.json``, empty where there is none."""
    path = folder / "tokenizer_config.json"
    return read_json(path) if path.is_file() else {}


def _spelled(token: Any) -> str | None:
    return token.get("content") if isinstance(token, dict) else token


def pad_of(folder: Path, what: str) -> int:
    """Id of the padding token that ``tokenizer_config.json`` (or ``special_tokens_map.json``) names."""
    special = folder / "special_tokens_map.json"
    token = _spelled(settings(folder).get("pad_token") or (read_json(special) if special.is_file() else {}).get("pad_token"))
    found = None if token is None else Tokenizer.from_file(folder / "tokenizer.json").id_of(token)
    if found is None:
        raise DiptychError(what, f"padding token {token!r} is not in tokenizer.json", "Name pad_token in tokenizer_config.json")
    return found


def write_external(tokenizer: Tokenizer, target: Path) -> None:
    """``tokenizer.json`` and a ``tokenizer_config.json`` that transformers' ``AutoTokenizer`` reads."""
    tokenizer.save(target)
    first, last = tokenizer.frame
    named = {"pad_token": tokenizer.pad_id, "bos_token": first, "eos_token": last}
    spelled = {name: tokenizer.token_of(number) for name, number in named.items() if number is not None}
    write_json(
        target / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": tokenizer.context, **spelled},
    )
