"""Context for class names: learned tokens in front of them, through the text tower, in pieces that are no longer than their names.

A text tower costs what its longest text costs. Here class names are sorted by length and encoded in pieces, each cropped to its own longest
name, where the tower allows cropping (causal towers, and those that mask padding); the rows are the same as of all at once. Where very many
classes are encoded with a gradient, a piece is computed again in the backward pass instead of being kept.

Shapes: K classes, M context tokens, L text length, W width of the text tower, D joint width, B pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.utils.checkpoint import checkpoint

from diptych.adapt.attach import copy_of
from diptych.adapt.parts.work import Work
from diptych.core.errors import UsageError
from diptych.towers.dual import DualEncoder
from diptych.towers.encode import lengths
from diptych.towers.prompts import Inserted, Prompts, text_start

PIECE = 1024  # texts that are encoded together at most
STEP = 3  # names in one piece differ in length by less than this many tokens
KEEP = 2**22  # numbers of a layer that are kept for the backward pass; with more, pieces are computed again
AFTER = "{}."  # how a class name stands behind the context (CoOp, arXiv:2109.01134, section 3.2)


class Names:
    """Class names that are encoded with a context in front.

    Args:
        model: a model whose weights want no gradient.
        texts: each class's name as it stands behind the context.
        context: how many tokens the context has at most.

    Raises:
        UsageError: the model has no tokenizer, or its text is too short for the context.
    """

    def __init__(self, model: DualEncoder, texts: Sequence[str], context: int) -> None:
        if model.tokenizer is None:
            raise UsageError(
                f"model {model.config.name!r}", "it has no tokenizer, so classes cannot be named", "Give the model its tokenizer"
            )
        if context + text_start(model) + 2 > model.text.context:
            why = f"the text tower reads {model.text.context} tokens in all"
            raise UsageError(f"a context of {context} tokens", why, "Use a shorter one")
        self.model, self.at, self.context = model, text_start(model), context
        ids_KL = model.tokenizer(list(texts)).to(model.device)
        length_K = lengths(ids_KL, model.text.pad_id).clamp(min=1)
        self.pieces: list[tuple[Tensor, Tensor]] = []
        for step in ((length_K + STEP - 1) // STEP).unique().tolist() if model.text.crops else [None]:
            every = torch.arange(len(ids_KL), device=ids_KL.device)
            index_G = every if step is None else every[(length_K + STEP - 1) // STEP == step]
            most = ids_KL.shape[1] if step is None else int(length_K[index_G].max())
            self.pieces += [(part, ids_KL[part, :most]) for part in index_G.split(PIECE)]
        self.back_K = torch.cat([index for index, _ in self.pieces]).argsort()

    def rows(self, context: Tensor) -> Tensor:
        """Unit rows (K, D) of the names behind ``context`` (M, W), or behind one of their own each, (K, M, W)."""
        tokens = sum(ids.numel() + len(ids) * context.shape[-2] for _, ids in self.pieces)
        again = torch.is_grad_enabled() and context.requires_grad and tokens * context.shape[-1] > KEEP
        made = []
        for index_G, ids_GL in self.pieces:
            mine = context[index_G] if context.ndim == 3 else context
            made.append(checkpoint(self._piece, ids_GL, mine, use_reentrant=False) if again else self._piece(ids_GL, mine))
        return torch.cat(made)[self.back_K]

    def each(self, context_BMW: Tensor) -> Tensor:
        """Unit rows (B, K, D) of all names behind every one of several contexts."""
        made = [
            self._piece(ids_GL.repeat(len(context_BMW), 1), context_BMW.repeat_interleave(len(ids_GL), 0)).unflatten(0, (-1, len(ids_GL)))
            for _, ids_GL in self.pieces
        ]
        return torch.cat(made, dim=1)[:, self.back_K]

    def _piece(self, ids_GL: Tensor, context: Tensor) -> Tensor:
        return self.model.text_features(ids_GL, prompts=Inserted((context,), self.at, same=True))


def frozen(work: Work) -> DualEncoder:
    """A copy of the parent that training leaves as it is and that stores no gradient.

    Raises:
        UsageError: the parent reads prompts already.
    """
    if work.model.prompts is not None:
        raise UsageError(f"model {work.model.config.name!r}", "it reads prompts already", "Learn them on its parent")
    return copy_of(work.model)


def token_rows(model: DualEncoder, text: str) -> Tensor:
    """Rows (T, W) of the text's tokens in the tower's table, without start and end.

    Raises:
        UsageError: the text tower has no table of tokens, or the text no tokens.
    """
    table = next((module for module in model.text.modules() if isinstance(module, nn.Embedding)), None)
    if model.tokenizer is None or table is None:
        missing = "tokenizer" if model.tokenizer is None else "table of tokens"
        raise UsageError(f"model {model.config.name!r}", f"its text tower has no {missing}", "Use a method that works on rows")
    frame = {*model.tokenizer.frame, model.text.pad_id}
    ids = [number for number in model.tokenizer([text])[0].tolist() if number not in frame]
    if not ids:
        raise UsageError(f"words {text!r}", "the tokenizer makes no token of them", "Write words")
    return table.weight.detach()[torch.tensor(ids, device=table.weight.device)].clone()


def start(model: DualEncoder, words: str | None, count: int, draw: Generator, templates: Sequence[str] = ()) -> Tensor:
    """A first context (``count``, W): the words' tokens stand last, in front of the class, and random ones (deviation 0.02) before them.

    Args:
        words: "" for random tokens alone; None takes those before the class in the first of the ``templates`` that has any, as many of the
            last ones as there is room for.

    Raises:
        UsageError: the words are more tokens than ``count``.
    """
    made_MW = 0.02 * torch.randn(count, model.text.width, generator=draw).to(model.device)
    told = next((before for before in (one.split("{")[0] for one in templates) if before.strip()), "") if words is None else words
    if not told:
        return made_MW
    told_TW = token_rows(model, told)
    if words is None:
        told_TW = told_TW[-count:]
    if len(told_TW) > count:
        raise UsageError(f"words {told!r}", f"they are {len(told_TW)} tokens, the context has {count}", "Make it longer, or say less")
    made_MW[count - len(told_TW) :] = told_TW.to(made_MW)
    return made_MW


def prompted(parent: DualEncoder, context_MW: Tensor, made_by: str, after: str = AFTER) -> DualEncoder:
    """The parent with the context in front of every text; class names stand behind it as ``after`` says. A head or rule is left behind."""
    prompts = Prompts.of(text=[context_MW.detach().cpu()], made_by=made_by).to(parent.device)
    return parent.with_head(None).with_rule(None).with_prompts(prompts, (after,))
