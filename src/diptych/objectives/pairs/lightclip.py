"""LightCLIP: three levels for small towers: softened contrast of instances, matching of patches with words, and masked words.

Paper: Nie et al., "LightCLIP: Learning Multi-Level Interaction for Lightweight Vision-Language Models", arXiv:2312.00674:
progressive softened labels, relaxed bipartite matching, masked language modelling with an image fusion module (abstract).
Code: none is public.
Relations: ``clip`` is the first term without softening; ``pyramidclip`` softens evenly and from the first step.

Shapes: B rows of this rank, N columns of all ranks, D embedding width, T patches, L words, P width of the token heads.

Instances: negatives get the share a = ``soften`` × progress of the target (0 at the beginning of a run), more of it the more alike
they are by the rows as they stand (no gradient)::

    target[i][j] = (1 - a) / len(P)  for j in P, the columns of an equal concept
                 = a * softmax([x[i] @ y[k] / similarity_temperature for k not in P])[j]  for others

Tokens: heads map patches p and words w to unit rows. Matching the two sets with even masses is an optimal transport problem; without
one of its two side conditions each word takes its best patch, or each patch its best word. Both are bounds of the exact value from above,
and the smaller is the similarity of picture i and text j, contrasted with the model's scale like the instances (targets not softened)::

    s[i][j] = min(mean(max(p[i][t] @ w[j][l] for t) for l), mean(max(p[i][t] @ w[j][l] for l) for t))

Words: some words of each text are hidden and found again (``parts/masked_words.py``). The total is instances + ``token`` × tokens +
``mlm`` × words. Equal concepts are positives of both contrasts; masked words need no such rule.

Filled in here, where the paper's abstract leaves it open: a grows in proportion to progress; of several ways to relax the matching, the one
above. The paper lets the picture into several stages of the text tower; here blocks after the tower look at the patches, each anew, so that
every text tower serves. Its shorter text tower is a matter of the preset.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.core.types import Loss, Pairs
from diptych.objectives.parts.contrast import cross_entropy, equal, hits, similarities, targets
from diptych.objectives.parts.masked_words import MaskedWords, words_of
from diptych.towers.dual import DualEncoder
from diptych.towers.see import See

CARD = Card(
    id="lightclip",
    name="LightCLIP",
    family="objective",
    paper="LightCLIP: Learning Multi-Level Interaction for Lightweight Vision-Language Models, arXiv:2312.00674",
    where="softened labels, relaxed bipartite matching, masked language modelling",
    needs=frozenset({"image.tokens", "text.tokens"}),
    claim="better lightweight models on several downstream tasks at no further cost of inference",
    published="abstract; no single figure",
)
COLUMNS = frozenset({"patches", "words", "is_word", "seen.image", "seen.text"})
LOSS = {"soften", "similarity_temperature", "token", "mlm"}


class Options(BaseModel):
    """Settings of :func:`lightclip`.

    Args:
        soften: share of the target that negatives have at the end of a run, in [0, 1).
        similarity_temperature: small values give the share to the most alike negatives.
        token, mlm: weights of the terms beside the instances'; masked words cost a second pass of the text tower.
        words: tokens of a text that are matched, the first ones.
        masked: words hidden in each text.
        fusion: blocks in which hidden words look at the picture.
        width: P.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    soften: float = Field(default=0.2, ge=0.0, lt=1.0)
    similarity_temperature: float = Field(default=0.1, gt=0.0)
    token: float = Field(default=0.5, ge=0.0)
    mlm: float = Field(default=0.2, ge=0.0)
    words: int = Field(default=8, ge=1)
    masked: int = Field(default=2, ge=1)
    fusion: int = Field(default=2, ge=1)
    width: int = Field(default=64, ge=1)


def chance(batch: int) -> None:
    """None: what masked words cost by chance depends on the vocabulary."""
    return


def matching(patch_BTP: Tensor, word_NLP: Tensor, is_word_NL: Tensor) -> Tensor:
    """Relaxed matching (B, N) of B pictures with N texts, each of which has a word."""
    wide = torch.promote_types(patch_BTP.dtype, torch.float32)
    dots_BTNL = torch.einsum("btp,nlp->btnl", patch_BTP.to(wide), word_NLP.to(wide))
    real_NL = is_word_NL > 0
    by_word_BN = torch.where(real_NL, dots_BTNL.amax(1), 0.0).sum(2) / real_NL.sum(1)
    by_patch_BN = dots_BTNL.masked_fill(~real_NL, torch.finfo(wide).min).amax(3).mean(1)
    return torch.minimum(by_word_BN, by_patch_BN)


def lightclip(pairs: Pairs, *, soften: float = 0.2, similarity_temperature: float = 0.1, token: float = 0.5, mlm: float = 0.2) -> Loss:
    """The loss of this rank's rows against the columns of all ranks.

    Args:
        pairs: taps and columns ``patches`` (B, T, P), ``words`` (B, L, P), ``is_word`` (B, L; at least one a row is 1), ``seen.image`` and
            ``seen.text`` (the unit rows without gradient); tap ``mlm`` (B,), the loss of each row's hidden words; state ``progress``.
        soften, similarity_temperature, token, mlm: see :class:`Options`.

    Returns:
        ``terms`` instance, token, words; ``report`` accuracy of both contrasts for pictures.
    """
    same_BN, columns, taps = equal(pairs.concept_B, pairs.concept_N), pairs.columns, pairs.taps
    share = soften * pairs.state["progress"]
    instance, accuracy = [], {}
    for rows_BD, cols_ND, one, other in (
        (pairs.image_BD, pairs.text_ND, "image", "text"),
        (pairs.text_BD, pairs.image_ND, "text", "image"),
    ):
        logits_BN = pairs.scale * similarities(rows_BD, cols_ND)
        alike_BN = similarities(taps[f"seen.{one}"], columns[f"seen.{other}"]).detach() / similarity_temperature
        weight_BN = alike_BN.masked_fill(same_BN, torch.finfo(alike_BN.dtype).min).softmax(1)
        instance.append(cross_entropy(logits_BN, targets(logits_BN, same_BN, share, weight_BN)))
        accuracy.setdefault("image_accuracy", hits(logits_BN, same_BN))
    forth_BN = matching(taps["patches"], columns["words"], columns["is_word"])
    alone = columns["words"] is taps["words"] and columns["patches"] is taps["patches"]  # one rank: the other way is the transpose
    back_BN = forth_BN.T if alone else matching(columns["patches"], taps["words"], taps["is_word"]).T
    matched = [cross_entropy(pairs.scale * found_BN, targets(found_BN, same_BN)) for found_BN in (forth_BN, back_BN)]
    terms = {
        "instance": (instance[0] + instance[1]) / 2,
        "token": token / 2 * (matched[0] + matched[1]),
        "words": mlm * taps["mlm"].to(forth_BN.dtype).mean(),
    }
    return Loss(terms["instance"] + terms["token"] + terms["words"], terms, accuracy | {"token_accuracy": hits(forth_BN, same_BN)})


class Method(nn.Module):
    """Heads for patches and words, and the masked-word module; none of it stays in the model."""

    def __init__(self, model: DualEncoder, options: Options) -> None:
        super().__init__()
        if model.tokenizer is None:
            raise UsageError("objective 'lightclip'", "the model has no tokenizer, so that words are unknown", "Give the model one")
        self.options = options
        self.patch = nn.Linear(model.image.width, options.width)
        self.word = nn.Linear(model.text.width, options.width)
        self.masked = MaskedWords(model, options.masked, options.fusion) if options.mlm > 0.0 else None

    def rows(self, see: See) -> dict[str, Tensor]:
        """Unit rows of patches and words, the loss of hidden words, and the rows without gradient."""
        assert see.text_BL is not None
        assert see.image_BD is not None
        assert see.text_BD is not None
        patch_BTD, place = see.taps["image.tokens"], self._first_words(see.text_BL, see.model)
        state_BLW = see.taps["text.tokens"].gather(1, place[0][..., None].expand(-1, -1, see.taps["text.tokens"].shape[2]))
        mlm_B = patch_BTD.new_zeros(len(patch_BTD))
        if self.masked is not None:
            mlm_B = self.masked(see.model, see.text_BL, patch_BTD, see.draw)
        return {
            "patches": F.normalize(self.patch(patch_BTD), dim=2),
            "words": F.normalize(self.word(state_BLW), dim=2),
            "is_word": place[1].float(),
            "mlm": mlm_B,
            "seen.image": see.image_BD.detach(),
            "seen.text": see.text_BD.detach(),
        }

    def _first_words(self, ids_BL: Tensor, model: DualEncoder) -> tuple[Tensor, Tensor]:
        """Places of the first ``words`` words, as many on every rank, and whether each is one; a text without keeps its first token."""
        word_BL = words_of(ids_BL, model)
        order_BL = (~word_BL).int().argsort(dim=1, stable=True)[:, : self.options.words]
        real_BL = word_BL.gather(1, order_BL)
        real_BL = real_BL | (torch.arange(real_BL.shape[1], device=real_BL.device) == 0)
        short = self.options.words - order_BL.shape[1]
        return F.pad(order_BL, (0, short)), F.pad(real_BL, (0, short))

    def forward(self, pairs: Pairs) -> Loss:
        """The loss; nothing is kept between steps."""
        return lightclip(pairs, **self.options.model_dump(include=LOSS))
