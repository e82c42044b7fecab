"""One optimiser step: a batch in, one update of the weights, and what there is to log, still on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from diptych.core.errors import UsageError
from diptych.core.rng import seed_for
from diptych.core.types import Batch, Loss, Pairs, TokenMethod
from diptych.engine import cached, optim, parallel
from diptych.engine.encode import Encoded, Encoder, Inputs, TextCache, inputs_of
from diptych.engine.memory import keep_freed
from diptych.engine.objective import BOTH, Follower, build_objective, frozen_copy, momentum_of, tokens_need
from diptych.engine.parallel import Ranks
from diptych.engine.run import Run
from diptych.towers.base import check_tokens


@dataclass(frozen=True, slots=True)
class Stepped:
    """What one step did; tensors on the device, averaged over nothing yet.

    Args:
        loss: this rank's loss before the update.
        grad_norm: norm of the whole gradient before clipping.
        bad: 1.0 where loss or gradient is not finite; the update was then left out.
    """

    loss: Tensor
    grad_norm: Tensor
    scale: Tensor
    bad: Tensor
    terms: Mapping[str, Tensor]
    report: Mapping[str, Tensor]


def share_weights(model: Any) -> bool:
    """Whether the two towers have a parameter in common."""
    return bool({*model.image.parameters()} & {*model.text.parameters()})


def freeze(model: Any, names: Set[str]) -> None:
    """Train neither of the parts ``names`` (as in ``init.frozen``), which :func:`training_mode` puts into evaluation mode.

    Raises:
        UsageError: one of two towers that share weights is to be frozen alone.
    """
    if ("image" in names) != ("text" in names) and share_weights(model):
        raise UsageError("init.freeze", "the two towers share weights", "Freeze both or neither")
    for name in ("image", "text", "image_projection", "text_projection"):
        if name in names:
            getattr(model, name).requires_grad_(False)
    if "scale" in names:
        model.log_scale.requires_grad_(False)
        if model.bias is not None:
            model.bias.requires_grad_(False)


def training_mode(model: Any) -> None:
    """Training mode, except for parts without a trainable parameter: their dropout and running statistics stay off."""
    model.train()
    for name in ("image", "text", "image_projection", "text_projection"):
        part = getattr(model, name)
        if not any(p.requires_grad for p in part.parameters()):
            part.eval()


def half_by_hardware(precision: str, device: torch.device) -> bool:
    """Whether autocast to bfloat16 is used: asked for with ``"auto"``, and in the hardware rather than emulated."""
    if precision == "off":
        return False
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


class Stepper:
    """Holds what a step needs and does it: ``stepper(batch, step, lr)``.

    Args:
        run: the settings.
        model: a dual encoder on ``ranks.device``, already frozen where the run says so.
        ranks: this process among all.
        tokens: the token method of the run, or None.
        how: ``"replicate"`` or ``"shard"`` instead of the rule; for tests.
    """

    def __init__(self, run: Run, model: Any, ranks: Ranks, tokens: TokenMethod | None = None, how: str | None = None) -> None:
        self.run, self.model, self.ranks, self.tokens = run, model, ranks, tokens
        if tokens is not None:
            check_tokens(model.image, tokens)
        self.objective = objective = build_objective(run, model, ranks.device)
        if "text" not in objective.uses and not objective.texts:
            freeze(model, {"text_projection", "scale"} | (set() if share_weights(model) else {"text"}))
        text_taps = any(tap.startswith("text.") and tap != "text.pooled" for tap in objective.taps)
        frozen_text = not text_taps and not any(p.requires_grad for p in model.text.parameters())
        self.cache = TextCache(model.text) if frozen_text else None
        self.encoder = Encoder(
            model, tokens, objective, frozen_text, half_by_hardware(run.precision, ranks.device), torch.Generator(ranks.device)
        )
        self.encoder.until = run.tokens.until if run.tokens else 1.0
        self.encoder.grouped = ranks.device.type == "cpu" and ranks.world == 1 and model.text.crops and hasattr(model.text, "encode")
        self.parts = 1 if run.data.micro is None else max(1, run.data.batch // ranks.world // run.data.micro)
        self.crops = self.parts == 1 or not text_taps
        self._check_micro()
        towers = [model.image] if frozen_text else [model.image, model.text]
        blocks = [block for tower in towers for block in getattr(tower, "blocks", [])]
        aside = model.text.parameters() if frozen_text else ()
        partial = objective.uses != BOTH or objective.rows is not None
        self.forward: nn.Module = parallel.wrap(self.encoder, blocks, ranks, how, aside, partial)
        self.sharded = ranks.world > 1 and not isinstance(self.forward, DistributedDataParallel)
        self.follower = self._copies(objective.needs | tokens_need(run))
        self.trained = nn.ModuleList([self.encoder, objective.method])
        self.optimizer = optim.build(self.trained, run.optim)
        if ranks.device.type == "cpu":
            keep_freed()
        training_mode(model)

    def _copies(self, needs: Set[str]) -> Follower | None:
        """The copies of the model that the objective or the token method looks at; returns the one that follows the model."""
        if needs and self.sharded:
            raise UsageError(
                f"objective {self.objective.id!r} on a sharded model",
                f"it needs a whole {sorted(needs)[0]} copy of the model on every rank",
                "Take a smaller model, which is replicated",
            )
        follower = Follower(self.model) if "ema" in needs else None
        self.encoder.beside(follower.copy if follower else None, frozen_copy(self.model) if "teacher" in needs else None)
        return follower

    def _check_micro(self) -> None:
        """What looks at a whole batch sees one part at a time, so that a gradient cache would not be exact."""
        if self.parts == 1:
            return
        if not self.objective.exact_in_parts:
            raise UsageError(
                f"data.micro with objective {self.objective.id!r}",
                "its rows depend on the whole batch, not on one part",
                "Leave out data.micro",
            )
        norms = (nn.BatchNorm1d, nn.BatchNorm2d)
        for module in (self.model, self.objective.method):
            found = [name for name, m in module.named_modules() if isinstance(m, norms) and any(p.requires_grad for p in m.parameters())]
            if found:
                raise UsageError(
                    "data.micro", f"{found[0]} is a trainable batch norm, which sees only one part at a time", "Leave out data.micro"
                )

    def __call__(self, batch: Batch, step: int, lr: float, progress: float = 0.0) -> Stepped:
        """Update the weights with one batch of this rank (CPU tensors).

        Args:
            step: seeds what is drawn on the device.
            progress: share of the budget that is spent.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        self.encoder.progress = progress
        loss = self._backward(batch, step)
        if self.sharded:
            parallel.average_scalars(self.encoder, self.ranks)
        if self.ranks.world > 1:
            parallel.average_gradients(self.objective.method, self.ranks)
        norm = optim.clip(self.trained, self.run.optim.clip_grad)
        bad = (~(torch.isfinite(loss.total) & torch.isfinite(norm))).float()
        if not self.sharded:
            self.optimizer.found_inf = bad  # type: ignore[attr-defined]  # the fused kernel then leaves the weights alone
        self.optimizer.step()
        if self.follower:
            self.follower.update(momentum_of(self.objective, self.tokens, progress))
        return Stepped(loss.total.detach(), norm.detach(), self._scale(), bad, loss.terms, loss.report)

    def _scale(self) -> Tensor:
        return self.model.scale.detach()

    def _loss(self, rows: Encoded, concept_B: Tensor, ranks: Ranks) -> Loss:
        state = {"progress": torch.tensor(self.encoder.progress, dtype=torch.float64, device=ranks.device)}
        pairs = Pairs(
            rows.image_BD, rows.text_BD, rows.image_BD, rows.text_BD, 0, rows.scale, rows.bias, concept_B, concept_B, rows.taps, {}, state
        )
        return parallel.contrast(self.objective.method, pairs, ranks, blockwise=self.objective.blockwise, columns=self.objective.columns)

    def _backward(self, batch: Batch, step: int) -> Loss:
        concept_B = batch.concept_B.to(self.ranks.device, non_blocking=True)
        if self.parts == 1:
            loss = self._loss(self._part(batch, step, 0)(), concept_B, self.ranks)
            loss.total.backward()
            return loss
        rows = len(batch) // self.parts
        parts = [self._part(_rows(batch, slice(i * rows, (i + 1) * rows)), step, i) for i in range(self.parts)]
        return cached.backward(parts, lambda rows: self._loss(rows, concept_B, self.ranks), self._hold)

    def repeat(self, batch: Batch, step: int) -> None:
        """This rank's forward and backward of a step once more, without other ranks, update or shards; for finding faults."""
        inputs = self._inputs(batch)
        self._draw_from(step, 0)
        self.optimizer.zero_grad(set_to_none=True)
        rows = self.encoder(inputs.image_BCHW, inputs.text_U, inputs.index_B, inputs.extra)
        self._loss(rows, batch.concept_B.to(self.ranks.device), Ranks(0, 1, 0, self.ranks.device)).total.backward()

    def _inputs(self, batch: Batch) -> Inputs:
        return inputs_of(batch, self.model, self.cache, self.ranks.device, text="text" in self.objective.uses, crops=self.crops)

    def _draw_from(self, step: int, part: int) -> None:
        """Seed dropout, token draws and the objective's draws by step, rank and part."""
        names = (step, self.ranks.rank, part)
        torch.manual_seed(seed_for(self.run.seed, "dropout", *names))
        self.encoder.draw.manual_seed(seed_for(self.run.seed, "objective", *names))
        draws = getattr(self.tokens, "generator", None)
        if draws is not None:
            draws.manual_seed(seed_for(self.run.seed, "tokens", *names))

    def _part(self, batch: Batch, step: int, part: int) -> Callable[[], Encoded]:
        """The rows of one part, the same at every call: what is drawn comes from the seed, the step, the rank and the part."""
        inputs = self._inputs(batch)

        def encode() -> Encoded:
            self._draw_from(step, part)
            return self.forward(inputs.image_BCHW, inputs.text_U, inputs.index_B, inputs.extra)

        return encode

    def _hold(self, last: bool) -> AbstractContextManager:
        """Replicas average once, after the last part; shards average each part, which sums to the same."""
        return nullcontext() if last or not isinstance(self.forward, DistributedDataParallel) else self.forward.no_sync()


def _rows(batch: Batch, rows: slice) -> Batch:
    """Some rows of a batch."""
    drawn = {name: value[rows] for name, value in batch.drawn.items()}
    return replace(
        batch,
        image_BCHW=batch.image_BCHW[rows],
        text_BL=batch.text_BL[rows],
        ids=batch.ids[rows],
        concept_B=batch.concept_B[rows],
        drawn=drawn,
        extra={name: value[rows] for name, value in batch.extra.items()},
    )
