"""Texts to ids and back. The tokenizer travels with its model: ``tokenizer.json`` plus the settings in ``config.json``.

Cleaning modes, applied before the tokenizer's own normaliser:

- ``none``: the text as it is; what normalising there is stands in ``tokenizer.json`` (Hugging Face's way).
- ``whitespace``: mend mis-decoded text (ftfy), unescape HTML twice, collapse white space.
- ``lower``: the same, then lower case (open_clip's default, OpenAI's CLIP).
- ``siglip``: lower case, ASCII punctuation removed, white space collapsed (Hugging Face's SigLIP).
- ``canonicalize``: mended as above, ``_`` to space, ASCII punctuation removed, lower case, white space collapsed (open_clip's SigLIP).
"""

from __future__ import annotations

import html
import json
import re
import string
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import tokenizers
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from diptych.core.errors import DiptychError, UsageError

Clean = Literal["none", "whitespace", "lower", "siglip", "canonicalize"]
PUNCTUATION = str.maketrans("", "", string.punctuation)


def mend(text: str) -> str:
    """Mis-decoded characters repaired and HTML entities unescaped twice, as CLIP's training text was.

    Printable ASCII without ``&`` holds nothing to mend and is returned at once. Raises :class:`DiptychError` without ftfy.
    """
    if text.isascii() and text.isprintable() and "&" not in text:
        return text
    try:
        import ftfy
    except ModuleNotFoundError as error:
        raise DiptychError("cleaning text as CLIP does", "the package ftfy is missing", "Run: pip install ftfy") from error

    return html.unescape(html.unescape(ftfy.fix_text(text)))


def clean(text: str, mode: Clean) -> str:
    """``text`` after one of the cleaning modes of this file."""
    if mode == "none":
        return text
    if mode == "siglip":
        return " ".join(text.lower().translate(PUNCTUATION).split())
    text = mend(text)
    if mode == "canonicalize":
        text = text.strip().replace("_", " ").translate(PUNCTUATION).lower()
    text = " ".join(text.split())
    return text.lower() if mode == "lower" else text


class TokenizerConfig(BaseModel):
    """The settings that stand beside ``tokenizer.json``.

    Args:
        context: ids a text; longer texts are cut so that the closing token stays.
        pad_id: fills short texts up.
        clean: cleaning mode before tokenizing.
        marks: special tokens that a text may spell out, by their ids; only where the tokenizer file does not know them as special.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    context: int = Field(default=77, ge=2)
    pad_id: int = Field(default=0, ge=0)
    clean: Clean = "none"
    marks: dict[str, int] = {}


class Tokenizer:
    """Texts to padded ids.

    Args:
        core: the ``tokenizers`` object; its post-processor adds the special tokens.
        config: context, padding and cleaning.
    """

    def __init__(self, core: tokenizers.Tokenizer, config: TokenizerConfig) -> None:
        self.config = config
        self.core = core
        self.core.enable_truncation(config.context)
        self.core.enable_padding(length=config.context, pad_id=config.pad_id)

    @classmethod
    def from_file(
        cls, path: str | Path, context: int = 77, pad_id: int = 0, clean: Clean = "none", marks: dict[str, int] | None = None
    ) -> Tokenizer:
        """A tokenizer from a ``tokenizer.json``; a file that is none is a :class:`DiptychError`."""
        try:
            text = Path(path).read_text(encoding="utf-8")
            core = tokenizers.Tokenizer.from_str(text)
        except OSError as error:
            raise DiptychError(f"tokenizer {path}", str(error.strerror), "Give the path of a tokenizer.json") from error
        except Exception as error:  # the library raises plain Exception for every fault of the file
            raise DiptychError(f"tokenizer {path}", f"not a tokenizer file: {error}", "Save it again with its own library") from error
        return cls(core, TokenizerConfig(context=context, pad_id=pad_id, clean=clean, marks=marks or {}))

    @classmethod
    def clip(cls, context: int = 77, style: Literal["open_clip", "huggingface"] = "open_clip", pad_id: int = 0) -> Tokenizer:
        """CLIP's 49,408 byte pairs with the ids of open_clip's ``SimpleTokenizer`` or of Hugging Face's ``CLIPTokenizer``.

        The two differ in cleaning only: open_clip mends mis-decoded text and HTML entities, Hugging Face composes (NFC) and lower-cases.
        """
        from diptych.data import clip_bpe

        core = clip_bpe.build(style)
        marks = {mark: 49406 + index for index, mark in enumerate(clip_bpe.MARKS[style])} if style == "open_clip" else {}
        return cls(core, TokenizerConfig(context=context, pad_id=pad_id, clean="lower" if style == "open_clip" else "none", marks=marks))

    @classmethod
    def byte_level(cls, context: int = 16) -> Tokenizer:
        """One id a byte of UTF-8, then start 256 and end 257, padding 258: for tests and tiny models."""
        from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

        from diptych.data.clip_bpe import byte_letters

        vocab = {letter: index for index, letter in enumerate(byte_letters())} | {"<start>": 256, "<end>": 257, "<pad>": 258}
        core = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
        core.normalizer = normalizers.NFC()
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        core.decoder = decoders.ByteLevel()
        core.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=[("<start>", 256), ("<end>", 257)])
        return cls(core, TokenizerConfig(context=context, pad_id=258))

    @property
    def context(self) -> int:
        """Ids a text."""
        return self.config.context

    @property
    def pad_id(self) -> int:
        """The id that fills short texts up."""
        return self.config.pad_id

    @property
    def vocab(self) -> int:
        """One more than the largest id."""
        return max(self.core.get_vocab(with_added_tokens=True).values()) + 1

    def id_of(self, token: str) -> int | None:
        """Id of a token as the vocabulary spells it, or None."""
        return self.core.token_to_id(token)

    def token_of(self, number: int) -> str | None:
        """The vocabulary's spelling of an id, or None."""
        return self.core.id_to_token(number)

    @property
    def frame(self) -> tuple[int | None, int | None]:
        """Ids that every text begins and ends with; None where there is none."""
        empty = self.core.encode("")
        ids = [token for token, real in zip(empty.ids, empty.attention_mask, strict=True) if real]
        return (ids[0] if len(ids) > 1 else None), (ids[-1] if ids else None)

    @cached_property
    def _marks(self) -> re.Pattern[str] | None:
        words = "|".join(map(re.escape, self.config.marks))
        return re.compile(rf"(?<![^\s\w]|_)({words})") if words else None

    @cached_property
    def _plain(self) -> tokenizers.Tokenizer:
        """The tokenizer without cutting and padding; made only when a text spells a special token out."""
        return tokenizers.Tokenizer.from_str(self._plain_json())

    def _encode(self, texts: Sequence[str]) -> list[tuple[list[int], bool]]:
        """Padded ids of each text and whether the context cut it."""
        cleaned = [clean(text, self.config.clean) for text in texts]
        encoded = [(e.ids, bool(e.overflowing)) for e in self.core.encode_batch(cleaned)]
        if self._marks is not None:
            for index, text in enumerate(cleaned):
                if self._marks.search(text):
                    encoded[index] = self._encode_marked(self._marks.split(text))
        return encoded

    def _encode_marked(self, parts: list[str]) -> tuple[list[int], bool]:
        """A text that spells special tokens out; each of them is one id."""
        ids: list[int] = []
        for part in parts:
            marked = part in self.config.marks
            ids += [self.config.marks[part]] if marked else self._plain.encode(part, add_special_tokens=False).ids
        first, last = self._plain.encode("").ids
        row = [first, *ids[: self.context - 2], last]
        return row + [self.pad_id] * (self.context - len(row)), len(ids) > self.context - 2

    def __call__(self, texts: str | Iterable[str]) -> Tensor:
        """Ids (B, context), int64, padded with ``pad_id``; a text that is too long is cut, its closing token stays."""
        rows = [texts] if isinstance(texts, str) else list(texts)
        if wrong := next((row for row in rows if not isinstance(row, str)), None):
            raise UsageError(f"a text of type {type(wrong).__name__}", "the tokenizer reads strings", "Pass str or a list of str")
        return torch.tensor([ids for ids, _ in self._encode(rows)], dtype=torch.int64).reshape(len(rows), self.context)

    def cut(self, texts: Sequence[str]) -> list[bool]:
        """For each text whether the context cuts it."""
        return [was_cut for _, was_cut in self._encode(texts)]

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """Text of one row of ids without special tokens and padding, spaced as the tokenizer spaces its words."""
        row = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        empty = self.core.encode("")
        frame = {token for token, real in zip(empty.ids, empty.attention_mask, strict=True) if real}
        end = next((i for i, token in enumerate(row) if i and token in frame and token != row[0]), len(row))
        words = self.core.decode([token for token in row[:end] if token not in frame and token != self.pad_id])
        return words.replace("</w>", " ").strip()

    def _plain_json(self) -> str:
        return json.dumps(json.loads(self.core.to_str()) | {"truncation": None, "padding": None}, ensure_ascii=False)

    def save(self, folder: str | Path) -> Path:
        """Write ``tokenizer.json`` into ``folder``; context, padding and cleaning are in :attr:`config`."""
        path = Path(folder) / "tokenizer.json"
        path.write_text(self._plain_json(), encoding="utf-8")
        return path
