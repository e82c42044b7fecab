"""A text transformer whose blocks are the image transformer's own: attention and MLP are shared, what is light stays apart.

Paper: You et al., "Learning Visual Representation from Modality-Shared Contrastive Language-Image Pre-training", arXiv:2207.12661,
the study of what can be shared (best: everything but input embedding, output projection and layer norms) and early specialisation (the
first layer of each side is its own; the image side's is in ``specialised.py``).
Reference code: https://github.com/Hxyou/MSCLIP.

Relations: CLIP's text transformer (``text.py``) in all but whose weights it has. Pictures attend to all tokens and texts to earlier ones
only, with the same weights, as in the paper. Both towers have one width, as the paper's text side is widened to the image side's.

As a loop, for blocks i after the ``private`` ones::

    image = image + attention[i](norm_image_1[i](image));  image = image + mlp[i](norm_image_2[i](image))
    text  = text  + attention[i](norm_text_1[i](text));    text  = text  + mlp[i](norm_text_2[i](text))

A shared weight is one parameter: it is counted, updated, averaged and stored once, and gets the sum of both sides' gradients.

Shapes: B rows, L text length, D width.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from torch import nn

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.towers.base import ImageTower
from diptych.towers.layers import Block
from diptych.towers.text import TextTransformer, TransformerConfig

CARD = Card(
    id="ms-clip",
    name="MS-CLIP",
    family="tower",
    paper="Learning Visual Representation from Modality-Shared Contrastive Language-Image Pre-training (arXiv:2207.12661)",
    where="the study of sharable modules, early specialisation, efficient parallel branch",
    code="https://github.com/Hxyou/MSCLIP",
    claim="Sharing most transformer weights between pictures and texts: zero-shot not lower, fewer parameters, smaller modality gap",
    published="zero-shot ImageNet up to 13 % relative, linear probe +1.6 over 24 sets (YFCC-100M), with fewer parameters",
)

PARTS = {"attention": ("attention",), "mlp": ("mlp",), "norms": ("norm1", "norm2")}


class SharedConfig(TransformerConfig):
    """A text transformer that takes weights from the image tower; what they share must be of one size.

    Args:
        parts: what is shared of each block: out of ``"attention"``, ``"mlp"`` and ``"norms"``.
        private: how many first blocks the text tower keeps to itself. Block ``private + i`` shares with block i of the image tower.
    """

    kind: Literal["shared"] = "shared"  # type: ignore[assignment]
    parts: tuple[Literal["attention", "mlp", "norms"], ...] = ("attention", "mlp")
    private: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _shares(self) -> SharedConfig:
        if not self.parts or len(set(self.parts)) != len(self.parts):
            raise ValueError(f"parts {self.parts} must name at least one part, and each once")
        if self.private >= self.depth:
            raise ValueError(f"private {self.private} leaves none of {self.depth} blocks to share")
        return self


class SharedText(TextTransformer):
    """Text tower of kind ``shared``; it computes with weights of its own until :meth:`share`."""

    config: SharedConfig

    def share(self, image: ImageTower) -> None:
        """Take the parts that the config names from ``image``'s blocks.

        Raises:
            UsageError: the image tower has no such blocks, or other sizes.
        """
        blocks, config = self.blocks[self.config.private :], self.config
        theirs = [block for block in image.blocks if isinstance(block, Block)]
        together = f"text tower 'shared' with image tower {image.config.kind!r}"
        if len(theirs) != len(image.blocks) or not theirs:
            raise UsageError(together, "the image tower's blocks are no transformer blocks", "Use an image tower such as 'vit'")
        if len(theirs) != len(blocks):
            why = f"the image tower has {len(theirs)} blocks and the text tower shares {len(blocks)}"
            raise UsageError(together, why, "Make text.depth − text.private the image tower's depth")
        for name in ("width", "heads", "mlp", "activation"):
            if getattr(image.config, name) != getattr(config, name):
                why = f"{name} is {getattr(image.config, name)!r} there and {getattr(config, name)!r} here"
                raise UsageError(together, why, f"Give both towers the same {name}")
        for mine, other in zip(blocks, theirs, strict=True):
            for name in (name for part in config.parts for name in PARTS[part]):
                _same_shapes(getattr(mine, name), getattr(other, name), together)
                setattr(mine, name, getattr(other, name))


def _same_shapes(mine: nn.Module, other: nn.Module, together: str) -> None:
    """A :class:`UsageError` where two modules differ, such as a gated MLP and a plain one."""
    shapes = [{name: value.shape for name, value in module.state_dict().items()} for module in (mine, other)]
    if type(mine) is not type(other) or shapes[0] != shapes[1]:
        raise UsageError(together, f"{type(other).__name__} there is not {type(mine).__name__} here", "Use blocks of one kind")


TOWER = ("shared", "text", SharedConfig, SharedText)
