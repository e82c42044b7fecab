"""From a run's settings to the things it needs: model, data set, loader, token method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from diptych.core import registry
from diptych.core.errors import UsageError
from diptych.core.types import TokenMethod
from diptych.data.loader import Loader
from diptych.engine.objective import build_material, entry_of, wants_words
from diptych.engine.options import options_of
from diptych.engine.parallel import Ranks
from diptych.engine.run import Run


def build_model(run: Run) -> Any:
    """The dual encoder that a run starts from, on the CPU.

    A fresh preset takes the first scale and bias of the objective's paper where its file gives them. A loaded model
    keeps its scale; where the objective needs a bias and the model has none, it gets the paper's.
    """
    from diptych.engine.graft import graft
    from diptych.towers.dual import DualEncoder
    from diptych.towers.presets import preset

    module = entry_of(run).load()
    if run.init.from_ is not None:
        from diptych.towers.formats.load import load

        return with_bias(load(run.init.from_), module)
    if run.init.preset is None:
        raise UsageError("init", "neither preset nor from_ is given", "Set one of them")
    config = preset(run.init.preset)
    start = {"init_scale": getattr(module, "INIT_SCALE", None), "init_bias": getattr(module, "INIT_BIAS", None)}
    config = config.model_copy(update={name: value for name, value in start.items() if value is not None})
    if run.init.image_from or run.init.text_from:
        return graft(config, run.init, run.seed)
    return DualEncoder(config, seed=run.seed)


def with_bias(model: Any, module: Any) -> Any:
    """``model`` with a bias parameter where the objective in ``module`` needs one."""
    if "bias" in module.CARD.needs and model.bias is None:
        model.config = model.config.model_copy(update={"init_bias": module.INIT_BIAS})
        model.bias = torch.nn.Parameter(torch.tensor(module.INIT_BIAS))
    return model


def build_tokens(run: Run, device: torch.device) -> TokenMethod | None:
    """The run's token method, or None."""
    if run.tokens is None:
        return None
    return registry.find(run.tokens.name, "tokens").make(options_of("tokens", run.tokens), device)


def open_data(run: Run) -> Any:
    """The data set at ``data.path``. Raises :class:`UsageError` where the run names none."""
    if run.data.path is None:
        raise UsageError("data.path", "the run names no data", "Set data.path, or pass the data set")
    from diptych.data.open import open as open_path

    told: dict[str, Any] = dict(run.data.columns)
    return open_path(Path(run.data.path) if Path(run.data.path).exists() else run.data.path, **told)


def build_loader(run: Run, dataset: Any, model: Any, ranks: Ranks) -> Loader:
    """Batches of this rank, at the model's size, in the model's tokens.

    Raises:
        UsageError: the run reads captions and the model has no tokenizer; the batch does not divide.
    """
    words = wants_words(run)
    if words and model.tokenizer is None:
        raise UsageError(f"model {model.config.name!r}", "it has no tokenizer", "Give one: DualEncoder(config, tokenizer=…)")
    part = (run.data.micro or 1) * ranks.world
    if run.data.batch % part:
        raise UsageError(
            f"data.batch={run.data.batch}", f"it does not divide into {ranks.world} ranks × data.micro", f"Make it a multiple of {part}"
        )
    return Loader(
        dataset,
        tokenize=model.tokenizer if words else None,
        preprocess=model.config.preprocess,
        batch_size=run.data.batch,
        seed=run.seed,
        rank=ranks.rank,
        world=ranks.world,
        augment=run.data.augment,
        workers=run.data.workers,
        caption=run.data.caption if words else "none",
        crop_text=False,
        max_broken=run.data.max_broken,
        material=build_material(run),
    )
