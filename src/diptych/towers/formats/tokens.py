"""Tokenizer files of other packages' model folders: ``tokenizer.json`` and ``tokenizer_config.json``."""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import normalizers

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
    """``tokenizer.json`` and a ``tokenizer_config.json`` that transformers' ``AutoTokenizer`` reads.

    Padding that is an ordinary word over there is named as the end token, since transformers would take the word for padding.
    """
    tokenizer.save(target)
    first, last = tokenizer.frame
    pad = tokenizer.pad_id if tokenizer.pad_id in tokenizer.core.get_added_tokens_decoder() else last
    named = {"pad_token": pad, "bos_token": first, "eos_token": last}
    spelled = {name: tokenizer.token_of(number) for name, number in named.items() if number is not None}
    write_json(
        target / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": tokenizer.context, **spelled},
    )


def for_huggingface(tokenizer: Tokenizer, what: str) -> Tokenizer:
    """The tokenizer whose own normaliser does the cleaning, since Hugging Face's files have no other place for it.

    CLIP's byte pairs become Hugging Face's ``CLIPTokenizer``: the same ids for all texts but those with HTML entities or
    mis-decoded characters, which it leaves as they are. Raises :class:`DiptychError` for a cleaning that cannot be moved.
    """
    settings = tokenizer.config
    if settings.clean == "none":
        return tokenizer
    if settings.clean == "lower" and settings.marks == Tokenizer.clip(settings.context).config.marks:
        return Tokenizer.clip(settings.context, "huggingface", settings.pad_id)
    if settings.clean != "siglip":
        why = f"texts are cleaned by {settings.clean!r}, which tokenizer.json cannot express"
        raise DiptychError(what, why, "Save it as native, which can hold everything")
    core = tokenizers.Tokenizer.from_str(tokenizer.core.to_str())
    steps: list[Any] = [normalizers.Lowercase(), normalizers.Replace(tokenizers.Regex(f"[{re.escape(string.punctuation)}]"), "")]
    steps += [normalizers.Replace(tokenizers.Regex(r"\s+"), " "), normalizers.Strip()]
    core.normalizer = normalizers.Sequence(steps + ([core.normalizer] if core.normalizer is not None else []))
    return Tokenizer(core, settings.model_copy(update={"clean": "none"}))
