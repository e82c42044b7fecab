"""A run, whole: everything that decides what is trained, frozen and typed, written beside its results as ``run.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from diptych.core.errors import UsageError
from diptych.data.augment import Augment
from diptych.engine.options import check_keys, check_options, read_yaml


class Part(BaseModel):
    """A frozen part of a run; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InitConfig(Part):
    """What the weights start from: exactly one of ``preset`` and ``from_``.

    Args:
        preset: a name of ``towers/presets.py``, freshly initialised from the run's seed.
        from_: a model name or folder that ``diptych.load`` understands.
        image_from, text_from: with ``preset``, a model whose tower and projection on that side take the place of the preset's;
            the text side brings its tokenizer and the joint width. An image tower may have been trained at another size.
        freeze: what stays as it is, out of ``image`` and ``text`` (towers), ``image_projection``, ``text_projection``, ``scale``.
        tune: what is trained: ``"all"`` that is not frozen; ``"image"`` (the image tower and its projection); ``"heads"``
            (both projections).
    """

    preset: str | None = None
    from_: str | None = None
    image_from: str | None = None
    text_from: str | None = None
    freeze: tuple[Literal["image", "text", "image_projection", "text_projection", "scale"], ...] = ()
    tune: Literal["all", "heads", "image"] = "all"

    @model_validator(mode="after")
    def _one_start(self) -> InitConfig:
        if (self.preset is None) == (self.from_ is None):
            raise ValueError("give either preset or from_")
        if self.from_ is not None and (self.image_from or self.text_from):
            raise ValueError("image_from and text_from go with preset")
        return self

    @property
    def frozen(self) -> frozenset[str]:
        """Everything that stays as it is, ``freeze`` and ``tune`` together."""
        by_tune = {"all": (), "image": ("text", "text_projection"), "heads": ("image", "text")}[self.tune]
        return frozenset(self.freeze) | frozenset(by_tune)


class RewriteConfig(Part):
    """Which rewriter of captions, by the id of its card, and its options."""

    name: str
    options: Mapping[str, Any] = Field(default_factory=dict)


class DataConfig(Part):
    """The pairs and how they become batches.

    Args:
        path: what ``diptych.data.open`` reads; None where the caller hands the data set over.
        columns: what ``diptych.data.open`` is told beside the path (``{"caption": "title", "split": "train"}``).
        batch: rows of one optimiser step over all ranks.
        micro: rows that go through the towers at once; None takes the batch whole. Smaller is the gradient cache: the same
            gradient in less memory.
        augment: how images are varied (see :class:`diptych.data.augment.Augment`); nothing by default.
        caption: ``"random"`` picks one of a sample's captions each time, ``"first"`` the first, ``"all"`` makes every caption
            a row of its own.
        views: how the further views of a picture are varied that the objective asks for; None takes those of its paper.
        rewrite: what takes the place of each caption (a method of the family ``captions``); None leaves them.
        val: path of validation data, where it is not part of the data set.
        max_broken: share of unreadable samples above which the run stops.
        workers: decoding threads of each rank, some batches ahead; 0 decodes between steps.
    """

    path: str | None = None
    columns: Mapping[str, str | tuple[str, ...]] = Field(default_factory=dict)
    batch: int = Field(default=256, ge=2)
    micro: int | None = Field(default=None, ge=1)
    augment: Augment = Augment()
    caption: Literal["random", "first", "all"] = "random"
    views: tuple[Augment, ...] | None = None
    rewrite: RewriteConfig | None = None
    val: str | None = None
    max_broken: float = Field(default=0.05, ge=0.0, le=1.0)
    workers: int = Field(default=2, ge=0)

    @model_validator(mode="after")
    def _divides(self) -> DataConfig:
        if self.micro is not None and self.batch % self.micro:
            raise ValueError(f"micro {self.micro} does not divide batch {self.batch}")
        return self


class ObjectiveConfig(Part):
    """Which objective, by the id of its card, and its options."""

    name: str = "clip"
    options: Mapping[str, Any] = Field(default_factory=dict)


class TokensConfig(Part):
    """Which token method, by the id of its card, and its options; used in training only.

    Args:
        until: share of the budget after which pictures are read whole, as they will be in use. A tower that has never read what a method
            leaves out answers worse to whole pictures (FLIP's unmasked tuning, arXiv:2212.00794).
    """

    name: str
    options: Mapping[str, Any] = Field(default_factory=dict)
    until: float = Field(default=1.0, gt=0.0, le=1.0)


class OptimConfig(Part):
    """AdamW and its schedule.

    Args:
        lr: the highest learning rate.
        weight_decay: on matrices, tables and kernels; never on vectors and scalars.
        warmup: share of the budget over which the rate rises from 0.
        schedule: after the warm-up ``"cosine"`` falls to ``floor`` × lr, ``"constant"`` stays.
        floor: share of lr at the end of the cosine.
        clip_grad: largest norm of the whole gradient; None does not clip.
        ema: decay of a moving average of the weights, which then is the model that is kept; None keeps the weights.
    """

    lr: float = Field(default=1e-3, gt=0.0)
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = Field(default=1e-6, gt=0.0)
    weight_decay: float = Field(default=0.1, ge=0.0)
    warmup: float = Field(default=0.05, ge=0.0, lt=1.0)
    schedule: Literal["cosine", "constant"] = "cosine"
    floor: float = Field(default=0.0, ge=0.0, le=1.0)
    clip_grad: float | None = Field(default=1.0, gt=0.0)
    ema: float | None = Field(default=None, gt=0.0, lt=1.0)


class BudgetConfig(Part):
    """When the run ends: exactly one of the four. With ``seconds`` the schedule follows the clock, so that such a run ends
    on time everywhere but is not repeatable to the bit; the other three are."""

    steps: int | None = Field(default=None, ge=1)
    samples: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0.0)
    seconds: float | None = Field(default=None, gt=0.0)

    @model_validator(mode="after")
    def _one(self) -> BudgetConfig:
        if sum(value is not None for value in (self.steps, self.samples, self.epochs, self.seconds)) != 1:
            raise ValueError("give exactly one of steps, samples, epochs and seconds")
        return self


class SaveConfig(Part):
    """Checkpoints, validation and the log.

    Args:
        every: steps from one checkpoint (and validation) to the next.
        keep: how many checkpoints are kept.
        best_metric: name of a validation metric whose best weights are kept; a leading ``-`` means lower is better.
        patience: validations without a better metric after which the run ends; None never ends early.
        log_every: steps from one line of ``log.jsonl`` to the next.
    """

    every: int = Field(default=500, ge=1)
    keep: int = Field(default=2, ge=1)
    best_metric: str | None = None
    patience: int | None = Field(default=None, ge=1)
    log_every: int = Field(default=10, ge=1)

    @model_validator(mode="after")
    def _has_metric(self) -> SaveConfig:
        if self.patience is not None and self.best_metric is None:
            raise ValueError("patience needs best_metric")
        return self


class Run(Part):
    """One training run. See each part for its fields.

    Args:
        name: of the run, for the report.
        seed: of everything that is drawn: initial weights, order, augmentation, dropout, tokens.
        precision: ``"auto"`` computes in bfloat16 where the hardware has it in silicon, with float32 master weights;
            ``"off"`` computes in float32.
    """

    name: str = "run"
    seed: int = 0
    init: InitConfig
    data: DataConfig = DataConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    tokens: TokensConfig | None = None
    optim: OptimConfig = OptimConfig()
    budget: BudgetConfig
    save: SaveConfig = SaveConfig()
    precision: Literal["auto", "off"] = "auto"

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Run:
        """A run out of plain values; an unknown key or a bad value is a :class:`UsageError` that names it."""
        check_keys(Run, values, "", _PARTS)
        try:
            run = Run.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "run"
            reason = first["msg"].removeprefix("Value error, ")
            raise UsageError(f"setting {where}", f"{reason} (it was {first['input']!r})", f"Mend {where}") from error
        check_options("objective", run.objective.name, run.objective.options)
        if run.tokens is not None:
            check_options("tokens", run.tokens.name, run.tokens.options)
        if run.data.rewrite is not None:
            check_options("captions", run.data.rewrite.name, run.data.rewrite.options)
        return run

    @staticmethod
    def from_yaml(path: Path | str) -> Run:
        """Read ``run.yaml``. Raises :class:`UsageError` for a missing file, bad YAML, unknown keys and bad values."""
        try:
            values = read_yaml(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"run file {path}", error.strerror or str(error), "Give the path of a run.yaml") from error
        except yaml.YAMLError as error:
            raise UsageError(f"run file {path}", " ".join(str(error).split()), "Mend the YAML") from error
        if not isinstance(values, dict):
            raise UsageError(f"run file {path}", "it holds no mapping of settings", "Give the path of a run.yaml")
        return Run.from_dict(values)

    def to_yaml(self) -> str:
        """Everything, defaults too, so that the file alone repeats the run."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def with_set(self, *assignments: str) -> Run:
        """``run.with_set("optim.lr=3e-4", "budget.steps=100")``: a new run with dotted settings changed.

        Setting one kind of budget or one start of the weights takes the place of the other.
        """
        values = self.model_dump(mode="json")
        for assignment in assignments:
            dotted, equals, text = assignment.partition("=")
            if not equals:
                raise UsageError(f"--set {assignment!r}", "it has no '='", "Write it as optim.lr=3e-4")
            *path, last = dotted.strip().split(".")
            part = values
            for name in path:
                if part.get(name) is None:
                    part[name] = {}
                if not isinstance(part[name], dict):
                    raise UsageError(f"setting {dotted!r}", f"{name!r} has no settings of its own", "Leave out what follows its dot")
                part = part[name]
            if path in (["budget"], ["init"]) and last in (exclusive := _EXCLUSIVE[path[0]]):
                part.update({name: None for name in exclusive if name != last})
            try:
                part[last] = read_yaml(text)
            except yaml.YAMLError as error:
                raise UsageError(f"--set {assignment!r}", "the value is no YAML", "Quote it") from error
        return Run.from_dict(values)


_EXCLUSIVE = {"budget": ("steps", "samples", "epochs", "seconds"), "init": ("preset", "from_")}


_PARTS: dict[str, type[BaseModel]] = {
    "init": InitConfig,
    "data": DataConfig,
    "data.augment": Augment,
    "data.rewrite": RewriteConfig,
    "objective": ObjectiveConfig,
    "tokens": TokensConfig,
    "optim": OptimConfig,
    "budget": BudgetConfig,
    "save": SaveConfig,
}
