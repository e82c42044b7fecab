"""Tune two small heads on cached features: what ``diptych train --from MODEL --tune heads`` does.

Both towers stay as they are, so each picture and each caption goes through them once; the pooled rows lie in a cache keyed by the
tower's weights and the data, and a second run starts training within seconds. Trained are a residual on each projection
(``towers/projection.py``) and the scale, with the multi-positive contrast of ``objectives/pairs/clip.py``. A part of the given data is
held back to choose when to stop; the start itself is among the candidates, so the result is never worse than the start there.

Shapes: N pictures, M different captions, B rows of a batch, W a tower's width, D the joint width.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.errors import DiptychError, UsageError
from diptych.core.rng import generator, seed_for
from diptych.core.types import Pairs
from diptych.data.sources.base import Dataset
from diptych.engine.frozen import image_rows, text_rows
from diptych.objectives.pairs.clip import clip
from diptych.towers.dual import DualEncoder
from diptych.towers.projection import ProjectionConfig, Residual, build_projection

Event = Callable[[Mapping[str, Any]], None]
LEAST = 20  # samples with captions below which there is nothing to hold back


class HeadsConfig(BaseModel):
    """How the heads are shaped and trained.

    Args:
        image_hidden, text_hidden: hidden units of each head; 0 makes it one linear map.
        dropout: of hidden units.
        batch: rows of a step; cut to the number of training pictures.
        lr, weight_decay: of AdamW; the rate rises over the first 5 % of the run and falls along a cosine.
        scale: of the logits at the start.
        epochs: passes over the pictures, each with one caption drawn for it; or ``seconds`` of training, not both. Without either, 10
        passes but at least 100 steps.
        holdout: share of the pictures that is held back where no validation data is given, at most 1,000.
        checks: how often the held-back part is looked at.
        max_broken: share of unreadable pictures at which the run stops.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    image_hidden: int = Field(default=0, ge=0)
    text_hidden: int = Field(default=0, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    batch: int = Field(default=1024, ge=2)
    lr: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    scale: float = Field(default=20.0, gt=0)
    epochs: int | None = Field(default=None, gt=0)
    seconds: float | None = Field(default=None, gt=0)
    holdout: float = Field(default=0.1, gt=0, lt=1)
    checks: int = Field(default=20, ge=1)
    max_broken: float = Field(default=0.01, ge=0, le=1)

    @model_validator(mode="after")
    def _one_budget(self) -> HeadsConfig:
        if self.epochs is not None and self.seconds is not None:
            raise ValueError("give epochs or seconds, not both")
        return self


@dataclass(frozen=True, slots=True)
class PairRows:
    """Pooled rows of a data set.

    Args:
        image_NW, text_MW: what the towers gave.
        captions: for each picture the rows of ``text_MW`` that belong to it.
        concept_N: int64, −1 where a sample names no concept.
        ids: N sample ids.
    """

    image_NW: Tensor
    text_MW: Tensor
    captions: tuple[tuple[int, ...], ...]
    concept_N: Tensor
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.captions)

    def take(self, indices: list[int]) -> PairRows:
        """The pictures at ``indices``; the caption rows are shared."""
        captions = tuple(self.captions[i] for i in indices)
        return PairRows(self.image_NW[indices], self.text_MW, captions, self.concept_N[indices], tuple(self.ids[i] for i in indices))


def pair_rows(model: DualEncoder, dataset: Dataset, cache: Path | None = None, max_broken: float = 0.01) -> PairRows:
    """Encode every picture and every different caption once (or read them from ``cache``).

    Raises:
        UsageError: no sample has a caption. DiptychError: more than ``max_broken`` of the pictures are unreadable.
    """
    words = [dataset.captions(index) for index in range(len(dataset))]
    kept, image_NW, broken = image_rows(model, dataset, cache)
    if len(broken) > max_broken * len(dataset):
        first, why = broken[0]
        reason = f"unreadable, which is over the limit of {max_broken:.0%}; the first is {first}: {why}"
        raise DiptychError(f"{len(broken):,} of {len(dataset):,} pictures", reason, "Mend or remove them")
    rows = [row for row, index in enumerate(kept) if words[index]]
    if not rows:
        raise UsageError(str(dataset.path), "no sample has a caption", "Put a .txt beside each picture or name the caption column")
    texts = sorted({caption for row in rows for caption in words[kept[row]]})
    place = {text: index for index, text in enumerate(texts)}
    captions = tuple(tuple(place[caption] for caption in words[kept[row]]) for row in rows)
    named: dict[str, int] = {}
    names = [dataset[kept[row]].concept for row in rows]
    concept_N = torch.tensor([-1 if name is None else named.setdefault(name, len(named)) for name in names])
    return PairRows(image_NW[rows], text_rows(model, texts, cache), captions, concept_N, tuple(dataset.ids[kept[row]] for row in rows))


def recall(model: DualEncoder, rows: PairRows, k: int = 10) -> tuple[float, float]:
    """Recall at ``k``, text → image and image → text, among ``rows`` alone; a hit is any picture with that caption."""
    with torch.no_grad():
        image_ND = F.normalize(model.image_projection(rows.image_NW), dim=-1)
        used = sorted({index for group in rows.captions for index in group})
        text_MD = F.normalize(model.text_projection(rows.text_MW[used]), dim=-1)
    place = {index: position for position, index in enumerate(used)}
    own_NM = torch.zeros(len(rows), len(used), dtype=torch.bool)
    for picture, group in enumerate(rows.captions):
        own_NM[picture, [place[index] for index in group]] = True
    scores_NM = image_ND @ text_MD.T

    def hits(scores: Tensor, own: Tensor) -> float:
        return own.gather(1, scores.topk(min(k, scores.shape[1]), dim=1).indices).any(1).float().mean().item()

    return hits(scores_NM.T, own_NM.T), hits(scores_NM, own_NM)


def with_heads(model: DualEncoder, config: HeadsConfig, seed: int) -> DualEncoder:
    """A copy of ``model`` whose projections are residuals that so far change nothing; its heads alone ask for gradients."""
    tuned = copy.deepcopy(model).requires_grad_(False)
    changes: dict[str, Any] = {"name": f"{model.config.name}-heads", "parent": model.config.name}
    for side, hidden in (("image", config.image_hidden), ("text", config.text_hidden)):
        name = f"{side}_projection"
        old: ProjectionConfig = getattr(model.config, name)
        if old.kind != "residual":
            dropout = config.dropout if hidden else 0.0
            added = {"kind": "residual", "base": old.kind, "hidden": hidden, "dropout": dropout}
            new = ProjectionConfig.model_validate(old.model_dump() | added)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed_for(seed, "heads", side))
                module = build_projection(new, getattr(model, side).width, model.embed_dim).to(model.device)
            assert isinstance(module, Residual)  # built from kind "residual"
            module.base = copy.deepcopy(getattr(model, name)).requires_grad_(False)
            setattr(tuned, name, module)
            changes[name] = new
        for part in (getattr(tuned, name).head, getattr(tuned, name).norm):
            part.requires_grad_(True)
    tuned.config = model.config.model_copy(update=changes)
    with torch.no_grad():
        tuned.log_scale.fill_(math.log(config.scale))
    tuned.log_scale.requires_grad_(True)
    return tuned


def tune_heads(
    model: DualEncoder,
    dataset: Dataset,
    *,
    val: Dataset | None = None,
    config: HeadsConfig | None = None,
    seed: int = 0,
    cache: Path | str | None = None,
    on_event: Event | None = None,
) -> DualEncoder:
    """A new model whose heads fit ``dataset``; ``model`` is left as it was.

    Args:
        dataset: pictures with captions; those without are left out.
        val: chooses the stopping point; None holds back a part of ``dataset``.
        cache: folder of cached features; None is the user's cache folder.
        on_event: called with ``{"step", "loss", "chance", "recall", "seconds", …}`` at each check.

    Raises:
        UsageError: too few pictures with captions, or a model without a tokenizer.
        DiptychError: unreadable pictures, or a loss that is not finite.
    """
    config, folder = config or HeadsConfig(), None if cache is None else Path(cache)
    rows = pair_rows(model, dataset, folder, config.max_broken)
    if len(rows) < LEAST:
        raise UsageError(f"{len(rows)} pictures with captions", f"heads need at least {LEAST}", "Add pictures with captions")
    if val is None:
        order = torch.randperm(len(rows), generator=generator(seed, "holdout")).tolist()
        count = min(1000, max(2, round(config.holdout * len(rows))))
        rows, held = rows.take(sorted(order[count:])), rows.take(sorted(order[:count]))
    else:
        held = pair_rows(model, val, folder, config.max_broken)
    tuned = with_heads(model, config, seed)
    fit(tuned, rows, held, config, seed, on_event or (lambda event: None))
    return tuned.requires_grad_(True).train(model.training)


def fit(model: DualEncoder, rows: PairRows, held: PairRows, config: HeadsConfig, seed: int, on_event: Event) -> None:
    """Train the parameters that ask for gradients and keep the best check."""
    wanted = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": [p for p in wanted if p.ndim > 1], "weight_decay": config.weight_decay}]
    groups.append({"params": [p for p in wanted if p.ndim <= 1], "weight_decay": 0.0})
    optimiser = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98))
    batch = min(config.batch, len(rows))
    each = len(rows) // batch
    total = config.epochs * each if config.epochs else max(10 * each, 100)
    draw = generator(seed, "heads", "order")
    start, best, state, checked, step = time.monotonic(), -1.0, {}, -1, 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "heads", "dropout"))
        loss = torch.tensor(math.nan)
        while True:
            share = step / total if config.seconds is None else min(1.0, (time.monotonic() - start) / config.seconds)
            if int(share * config.checks) > checked:
                checked = int(share * config.checks)
                event = _check(model, held, step, loss, batch, time.monotonic() - start)
                on_event(event)
                if event["recall"] > best:
                    best, state = event["recall"], _trained(model)
            if share >= 1.0:
                break
            if step % each == 0:
                order = torch.randperm(len(rows), generator=draw)
            picked = order[step % each * batch :][:batch]
            for group in optimiser.param_groups:
                group["lr"] = config.lr * min(1.0, share / 0.05 + 1e-3) * 0.5 * (1 + math.cos(math.pi * share))
            loss = _step(model, rows, picked, draw, optimiser)
            step += 1
    model.load_state_dict(state, strict=False)


def _trained(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def _check(model: DualEncoder, held: PairRows, step: int, loss: Tensor, batch: int, seconds: float) -> dict[str, Any]:
    """One look at the held-back part. The value that chooses is the mean of both directions."""
    if step and not torch.isfinite(loss):
        raise DiptychError(f"the loss at step {step}", "is not finite", "Lower lr")
    model.eval()
    t2i, i2t = recall(model, held)
    values = {"step": step, "recall": (t2i + i2t) / 2, "text_to_image": t2i, "image_to_text": i2t, "seconds": seconds}
    return values | {"loss": loss.item() if step else None, "chance": math.log(batch), "scale": model.scale.item()}


def _step(model: DualEncoder, rows: PairRows, picked: Tensor, draw: torch.Generator, optimiser: torch.optim.Optimizer) -> Tensor:
    """One update on the pictures ``picked``, each with one of its captions; equal concepts (else equal captions) are positives."""
    model.image_projection.train()
    model.text_projection.train()
    chance_B = torch.rand(len(picked), generator=draw)
    groups = [rows.captions[index] for index in picked.tolist()]
    text_B = torch.tensor([group[int(c * len(group))] for group, c in zip(groups, chance_B.tolist(), strict=True)])
    concept_B = torch.where(rows.concept_N[picked] >= 0, rows.concept_N[picked], -1 - text_B)
    image_BD = F.normalize(model.image_projection(rows.image_NW[picked]), dim=-1)
    text_BD = F.normalize(model.text_projection(rows.text_MW[text_B]), dim=-1)
    loss = clip(Pairs(image_BD, text_BD, image_BD, text_BD, 0, model.scale, None, concept_B, concept_B)).total
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 1.0)
    optimiser.step()
    return loss.detach()
