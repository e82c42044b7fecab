"""20 steps with open_clip's start weights, batches and optimiser follow the losses that it recorded."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from diptych.core.types import Batch
from diptych.engine import optim
from diptych.engine.parallel import Ranks
from diptych.engine.run import Run
from diptych.engine.step import Stepper
from diptych.towers.formats.open_clip import import_state
from diptych.towers.formats.open_clip_config import parse_config

HERE = Path(__file__).parent


def recorder(monkeypatch) -> ModuleType:
    """The script that recorded, for its batches; what it imports from open_clip is not called."""
    for name in ("open_clip", "open_clip.loss", "open_clip.model"):
        stand_in = ModuleType(name)
        for part in ("ClipLoss", "CLIP", "CLIPTextCfg", "CLIPVisionCfg"):
            setattr(stand_in, part, None)
        monkeypatch.setitem(sys.modules, name, stand_in)
    spec = importlib.util.spec_from_file_location("make_losses", HERE / "make_losses.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("micro", [None, 4])
def test_follows_open_clip(monkeypatch, micro):
    facts = json.loads((HERE / "losses" / "losses.json").read_text())
    images, texts = recorder(monkeypatch).batches()
    model = import_state(parse_config(facts["config"], "golden"), None, load_file(HERE / "losses" / "weights.safetensors"), "golden")
    steps = len(facts["losses"])
    settings = {"warmup": facts["warmup"] / steps, **facts["optim"]}
    run = Run.from_dict(
        {
            "init": {"preset": "tiny"},
            "data": {"batch": images.shape[1], "micro": micro},
            "optim": settings,
            "budget": {"steps": steps},
            "precision": "off",
        }
    )
    stepper = Stepper(run, model, Ranks(0, 1, 0, torch.device("cpu")))
    losses, norms = [], []
    for step in range(steps):
        batch = Batch(images[step], texts[step], tuple("abcdefgh"), torch.arange(8))
        done = stepper(batch, step, optim.rate(run.optim, step / steps, 1 / steps))
        losses.append(float(done.loss))
        norms.append(float(done.grad_norm))
    assert losses == pytest.approx(facts["losses"], abs=1e-4)
    assert norms == pytest.approx(facts["norms"], rel=1e-3)
    assert max(abs(a - b) for a, b in zip(facts["losses"][1:], facts["losses"], strict=False)) > 0.05
