"""The common part of methods that work inside blocks, between attention and MLP: nothing happens at the other seams."""

from __future__ import annotations

from diptych.core.types import Tokens


class Inside:
    """What such a method need not spell out; it defines ``uses`` and ``between``, and ``acts`` where it skips blocks."""

    __slots__ = ()

    def after_embed(self, tokens: Tokens) -> Tokens:
        """The same tokens."""
        return tokens

    def after_block(self, index: int, tokens: Tokens) -> Tokens:
        """The same tokens."""
        return tokens

    def acts(self, index: int, depth: int) -> bool:
        """In every block."""
        return True
