"""CLIP's byte-pair vocabulary (MIT, see LICENSE beside it) as a ready ``tokenizers`` object."""

from __future__ import annotations

import gzip
from importlib import resources

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

MERGES = 49152 - 256 - 2
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
MARKS = {"open_clip": ("<start_of_text>", "<end_of_text>"), "huggingface": ("<|startoftext|>", "<|endoftext|>")}


def byte_letters() -> list[str]:
    """256 printable letters, one a byte, as the vocabulary numbers them: printable bytes first, the others from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(256 - len(printable))]


def vocabulary(marks: tuple[str, str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The 49,408 tokens with their ids, and the merges in order."""
    data = resources.files(__name__).joinpath("bpe_simple_vocab_16e6.txt.gz").read_bytes()
    lines = gzip.decompress(data).decode("utf-8").split("\n")[1 : MERGES + 1]
    merges = [(first, second) for first, second in (line.split() for line in lines)]
    letters = byte_letters()
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges), *marks]
    return {token: index for index, token in enumerate(tokens)}, merges


def build(style: str) -> tokenizers.Tokenizer:
    """The tokenizer in ``"open_clip"`` style (text arrives clean, marks are plain words) or ``"huggingface"`` (it normalises itself)."""
    start, end = MARKS[style]
    vocab, merges = vocabulary((start, end))
    model = models.BPE(vocab=vocab, merges=merges, continuing_subword_prefix="", end_of_word_suffix="</w>", fuse_unk=False)
    tokenizer = tokenizers.Tokenizer(model)
    pattern = WORDS
    if style == "huggingface":
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(tokenizers.Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        tokenizer.add_special_tokens([tokenizers.AddedToken(mark, normalized=False, special=True) for mark in (start, end)])
    else:
        pattern = f"(?i:{WORDS})"
    again = style == "huggingface"  # Hugging Face splits words once more by GPT-2's rule
    split = pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=again)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, vocab[start]), (end, vocab[end])]
    )
    return tokenizer
