"""The dual encoder: two towers, their projections, the scale and bias of the logits, and what turns pictures and words into rows.

Shapes: B rows, N all rows, C channels, H height, W width, L text length, D joint width, K classes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence, Set
from typing import Annotated, Any

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, model_validator
from torch import Tensor, nn
from torch.nn import functional

from diptych.core.errors import UsageError
from diptych.core.rng import seed_for
from diptych.core.types import Preprocess, TokenMethod
from diptych.data.tokenizers import Tokenizer, TokenizerConfig
from diptych.towers.base import TowerConfig
from diptych.towers.build import build_image_tower, build_text_tower, parse_image_config, parse_text_config
from diptych.towers.head import Head, HeadConfig
from diptych.towers.projection import ProjectionConfig, build_projection
from diptych.towers.prompts import Inserted, PromptConfig, Prompts, text_start, with_room
from diptych.towers.rule import Rule, RuleConfig

ImageConfig = Annotated[SerializeAsAny[TowerConfig], BeforeValidator(parse_image_config)]
TextConfig = Annotated[SerializeAsAny[TowerConfig], BeforeValidator(parse_text_config)]


class DualConfig(BaseModel):
    """Everything besides the weights that decides what the model computes.

    Args:
        name: how reports call it.
        image, text: the towers' configs, told apart by ``kind``.
        embed_dim: width of the joint space.
        preprocess: from decoded RGB to the image tower's input.
        init_scale: first value of the logits' scale (already exponentiated); ``max_scale`` caps it.
        init_bias: first value of the logits' bias; None for a model without one.
        tokenizer: settings beside ``tokenizer.json``; None where the model has no tokenizer.
        templates: prompt templates with one ``{}`` that :meth:`DualEncoder.classifier` uses when none are given.
        parent: name of the model this one was made from.
        head: a classifier that was fitted on the rows, for its classes; None where there is none.
        prompts: learned tokens that the towers read beside their own; None where there are none.
        rule: how an adaptation method answers in place of similarities; None where there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    image: ImageConfig
    text: TextConfig
    embed_dim: int = Field(ge=1)
    image_projection: ProjectionConfig = ProjectionConfig()
    text_projection: ProjectionConfig = ProjectionConfig()
    preprocess: Preprocess
    init_scale: float = Field(default=1 / 0.07, gt=0)
    max_scale: float = Field(default=100.0, gt=0)
    init_bias: float | None = None
    tokenizer: TokenizerConfig | None = None
    templates: tuple[str, ...] = ("a photo of a {}.",)
    parent: str | None = None
    head: HeadConfig | None = None
    prompts: PromptConfig | None = None
    rule: RuleConfig | None = None

    @model_validator(mode="after")
    def _fits(self) -> DualConfig:
        context = getattr(self.text, "context", None)
        if self.tokenizer is not None and context is not None and self.tokenizer.context != context:
            raise ValueError(f"tokenizer context {self.tokenizer.context} is not the text tower's {context}")
        return self


class DualEncoder(nn.Module):
    """Two towers that meet in one space of unit rows.

    Args:
        config: what to build.
        tokenizer: for texts as strings; None leaves :meth:`encode_text` and :meth:`classifier` without one.
        seed: of the initial weights; the global random state is left as it was.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: DualConfig, tokenizer: Tokenizer | None = None, seed: int = 0) -> None:
        super().__init__()
        if tokenizer is not None and tokenizer.config != config.tokenizer:
            config = DualConfig.model_validate({**dict(config), "tokenizer": tokenizer.config})
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(seed, "weights"))
            self.image = build_image_tower(config.image)
            self.text = build_text_tower(config.text)
            self.image_projection = build_projection(config.image_projection, self.image.width, config.embed_dim)
            self.text_projection = build_projection(config.text_projection, self.text.width, config.embed_dim)
            self.text.share(self.image)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.init_scale)))
        self.bias = None if config.init_bias is None else nn.Parameter(torch.tensor(config.init_bias))
        self.head = None if config.head is None else Head(config.head)
        self.prompts = None if config.prompts is None else Prompts(config.prompts, self.text.width, self.image.width)
        self.rule = None if config.rule is None else Rule(config.rule)
        self.register_buffer("mean", torch.tensor(config.preprocess.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(config.preprocess.std)[:, None, None], persistent=False)
        self.tokenizer = tokenizer if tokenizer is not None else default_tokenizer(config)
        self._check_vocabulary()

    def _check_vocabulary(self) -> None:
        vocab = getattr(self.config.text, "vocab", None)
        if self.tokenizer is not None and vocab is not None and self.tokenizer.vocab > vocab:
            why = f"the tokenizer has ids up to {self.tokenizer.vocab - 1}, the text tower's table ends at {vocab - 1}"
            raise UsageError(f"model {self.config.name!r}", why, "Use the tokenizer that the model was trained with")

    @property
    def templates(self) -> tuple[str, ...]:
        """Prompt templates of :meth:`classifier`."""
        return self.config.templates

    @property
    def scale(self) -> Tensor:
        """What similarities are multiplied with: ``exp(log_scale)``, at most ``max_scale``."""
        return self.log_scale.exp().clamp(max=self.config.max_scale)

    @property
    def embed_dim(self) -> int:
        """Width of the joint space."""
        return self.config.embed_dim

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.log_scale.device

    def normalise(self, pixels_BCHW: Tensor) -> Tensor:
        """uint8 0–255 or float 0–1 RGB to what the image tower reads, ``(x - mean) / std``."""
        dtype = self.mean.dtype
        if pixels_BCHW.dtype == torch.uint8:
            return torch.addcmul(-self.mean / self.std, pixels_BCHW.to(dtype), 1 / (255 * self.std))
        if not pixels_BCHW.dtype.is_floating_point:
            raise UsageError(f"pixels of {pixels_BCHW.dtype}", "pictures are uint8 0–255 or float 0–1", "Convert them first")
        return (pixels_BCHW.to(dtype) - self.mean) / self.std

    def image_features(
        self,
        pixels_BCHW: Tensor,
        *,
        tokens: TokenMethod | None = None,
        taps: Set[str] = frozenset(),
        normalise: bool = True,
        prompts: Inserted | None = None,
    ) -> Any:
        """Unit rows (B, D) of pictures; with ``taps`` a tuple of the rows and the taps by name.

        Args:
            pixels_BCHW: uint8 0–255 or float 0–1 RGB at the model's size; with ``normalise=False`` what the tower itself reads.
            tokens: a method that drops or merges image tokens.
            taps: names such as ``image.tokens``.
            prompts: tokens to read beside the tower's own, in place of the model's own prompts.
        """
        pixels_BCHW = self.normalise(pixels_BCHW) if normalise else pixels_BCHW
        own = prompts is None and self.prompts is not None
        prompts = self.prompts.in_image() if self.prompts is not None and own else prompts
        if prompts is None:
            pooled_BW, seen = self.image(pixels_BCHW, tokens=tokens, taps=taps)
        elif not self.image.takes_prompts:
            why = "its blocks read a grid of patches, in which there is no place for more tokens"
            raise UsageError(f"prompts in image tower {self.config.image.kind!r}", why, "Put them into the text tower")
        else:
            pooled_BW, seen = self.image(pixels_BCHW, tokens=tokens, taps=taps, prompts=prompts)
        rows_BD = functional.normalize(self.image_projection(pooled_BW), dim=-1)
        if own and prompts is not None:
            plain_BW = None if self._all else self.image(pixels_BCHW, tokens=tokens)[0]
            rows_BD = self._towards(rows_BD, plain_BW, self.image_projection)
        return (rows_BD, seen) if taps else rows_BD

    def text_features(self, ids_BL: Tensor, *, taps: Set[str] = frozenset(), prompts: Inserted | None = None) -> Any:
        """Unit rows (B, D) of token ids; with ``taps`` a tuple of the rows and the taps by name.

        Args:
            prompts: tokens to read beside the text's own, in place of the model's own prompts; room is made for them here.
        """
        own = prompts is None and self.prompts is not None
        prompts = self.prompts.in_text(text_start(self)) if self.prompts is not None and own else prompts
        if prompts is None:
            pooled_BW, seen = self.text(ids_BL, taps=taps)
        else:
            pooled_BW, seen = self.text(with_room(self, ids_BL, prompts.count), taps=taps, prompts=prompts)
        rows_BD = functional.normalize(self.text_projection(pooled_BW), dim=-1)
        if own and prompts is not None:
            rows_BD = self._towards(rows_BD, None if self._all else self.text(ids_BL)[0], self.text_projection)
        return (rows_BD, seen) if taps else rows_BD

    @property
    def _all(self) -> bool:
        """The model's prompts take all of the way from the parent's rows."""
        return self.prompts is None or self.prompts.config.share == 1

    def _towards(self, rows_BD: Tensor, plain_BW: Tensor | None, projection: nn.Module) -> Tensor:
        """Rows that go only the prompts' share of the way from those without prompts; ``plain_BW`` None is all of it."""
        if plain_BW is None or self.prompts is None:
            return rows_BD
        plain_BD = functional.normalize(projection(plain_BW), dim=-1)
        return functional.normalize(torch.lerp(plain_BD, rows_BD, self.prompts.config.share), dim=-1)

    def logits(self, image_BD: Tensor, text_ND: Tensor) -> Tensor:
        """Scaled (and, where the model has one, shifted) similarities (B, N) of unit rows."""
        logits_BN = self.scale * image_BD @ text_ND.T
        return logits_BN if self.bias is None else logits_BN + self.bias

    def encode_image(self, images: Any, batch_size: int = 64, progress: bool = False, tokens: TokenMethod | None = None) -> Tensor:
        """Unit rows (N, D), float32 on the CPU, without gradient; see :func:`diptych.towers.encode.encode_image`."""
        from diptych.towers.encode import encode_image

        return encode_image(self, images, batch_size, progress, tokens)

    def encode_text(self, texts: str | Iterable[str], batch_size: int = 256, progress: bool = False) -> Tensor:
        """Unit rows (N, D), float32 on the CPU, without gradient; see :func:`diptych.towers.encode.encode_text`."""
        from diptych.towers.encode import encode_text

        return encode_text(self, texts, batch_size, progress)

    def classifier(self, labels: Sequence[str] | None = None, templates: Sequence[str] | None = None) -> Any:
        """A :class:`~diptych.towers.classifier.Classifier` over ``labels``: the head's where it knows exactly these, else zero-shot.

        Args:
            labels: names of classes; None takes the head's.
            templates: prompts with one ``{}`` for the label; None takes the model's own. With templates the head is left aside.

        Raises:
            UsageError: no labels, and no head that has some.
        """
        from diptych.towers.classifier import Classifier

        names = () if isinstance(labels, str) else tuple(labels or ())
        if templates is None and self.rule is not None and ((labels is None and self.rule.classes) or (names and self.rule.knows(names))):
            return Classifier(self, names or self.rule.classes, None, self.rule)
        if self.head is not None and templates is None and (labels is None or names == self.head.classes):
            return Classifier(self, self.head.classes, None)
        return Classifier.from_labels(self, labels or (), templates)

    def with_head(self, head: Head | None) -> DualEncoder:
        """The same towers with another head (or none); weights are shared with this model, which stays as it is."""
        return self._with(head=head)

    def with_prompts(self, prompts: Prompts | None, templates: Sequence[str] | None = None) -> DualEncoder:
        """The same towers with prompts (or without); weights are shared with this model, which stays as it is.

        Args:
            templates: the words round a label that the prompts were learned with; None keeps the model's.
        """
        made = self._with(prompts=prompts)
        if templates is not None:
            made.config = made.config.model_copy(update={"templates": tuple(templates)})
        return made

    def with_rule(self, rule: Rule | None) -> DualEncoder:
        """The same towers with another rule (or none); weights are shared with this model, which stays as it is."""
        return self._with(rule=rule)

    def _with(self, **parts: Any) -> DualEncoder:
        """A model that shares everything with this one but ``parts``."""
        from copy import copy

        made = copy(self)
        for name in ("_modules", "_parameters", "_buffers"):
            setattr(made, name, dict(getattr(self, name)))
        made.config = self.config.model_copy(update={name: None if part is None else part.config for name, part in parts.items()})
        for name, part in parts.items():
            setattr(made, name, part)
        return made

    def unset(self) -> set[str]:
        """Parts of the config that came later and are left out where they say nothing, so that older folders keep their hash."""
        return {name for name in ("head", "prompts", "rule") if getattr(self.config, name) is None}

    def rows_fingerprint(self) -> str:
        """The fingerprint of what the rows depend on: a head or a rule leaves them as they are, so they do not count."""
        return self._with(head=None, rule=None).fingerprint()

    @torch.no_grad()
    def fingerprint(self) -> str:
        """sha256 of the config (its name and parent aside) and of every weight: equal models have equal ones."""
        digest = hashlib.sha256(self.config.model_dump_json(exclude={"name", "parent", *self.unset()}).encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(f"{name}{tuple(value.shape)}".encode())
            digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def default_tokenizer(config: DualConfig) -> Tokenizer | None:
    """The tokenizer that needs no file: CLIP's byte pairs or, for the smallest presets, bytes. None where neither fits the config."""
    if config.tokenizer is None:
        return None
    for made in (Tokenizer.clip(config.tokenizer.context), Tokenizer.byte_level(config.tokenizer.context)):
        if made.config == config.tokenizer:
            return made
    return None
