"""The bootstrap by hand, what it trains, and that it comes nearer to its teacher."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from few_steps import few_steps

from diptych.core.errors import UsageError
from diptych.core.types import Pairs
from diptych.objectives.post.sparseformer_bootstrap import Method, Options, sparseformer_bootstrap
from diptych.towers.dual import DualEncoder
from diptych.towers.formats.native import save_native
from diptych.towers.presets import preset
from diptych.towers.sparseformer import bootstrap

SMALL: dict[str, Any] = {
    "tokens": 5,
    "stem": 8,
    "points": 4,
    "focus_width": 16,
    "focus_heads": 2,
    "repeats": 2,
    "mixer": 8,
    "stem_stride": 2,
}


def pairs(image, teacher) -> Pairs:
    rows, none = torch.tensor(image), torch.arange(len(image))
    return Pairs(rows, rows, rows, rows, 0, torch.ones(()), None, none, none, {"teacher": torch.tensor(teacher)})


def test_by_hand():
    assert sparseformer_bootstrap(pairs([[1.0, 0.0], [0.0, 1.0]], [[3.0, 0.0], [5.0, 0.0]])).total.item() == pytest.approx(0.5)
    assert sparseformer_bootstrap(pairs([[1.0, 0.0]], [[-2.0, 0.0]])).total.item() == pytest.approx(2.0)


def saved(tmp_path) -> tuple[str, str]:
    teacher = DualEncoder(preset("tiny"), seed=3)
    save_native(teacher, tmp_path / "teacher")
    save_native(bootstrap(teacher, skip=0, **SMALL), tmp_path / "student")
    return str(tmp_path / "teacher"), str(tmp_path / "student")


def test_only_the_focusing_part_and_the_first_blocks_train(tmp_path):
    teacher, student = saved(tmp_path)
    taught = few_steps(
        "sparseformer-bootstrap",
        f"objective.options.teacher={teacher}",
        f"init.from_={student}",
        "objective.options.tune=1",
        steps=6,
    )
    model = taught.stepper.model
    before = DualEncoder(preset("tiny"), seed=3)
    for name, value in before.image.blocks[1].state_dict().items():
        assert torch.equal(model.image.blocks[1].state_dict()[name], value)
    changed = {
        name
        for name, value in before.image.blocks[0].state_dict().items()
        if not torch.equal(model.image.blocks[0].state_dict()[name], value)
    }
    assert "mlp.up.weight" in changed
    for part in ("text", "image_projection", "text_projection"):
        for name, value in getattr(before, part).state_dict().items():
            assert torch.equal(getattr(model, part).state_dict()[name], value)
    assert taught.losses[-1] < taught.losses[0]
    assert not [name for name in taught.method.state_dict() if "teacher" in name]


def test_other_towers_are_refused(tmp_path):
    teacher, _ = saved(tmp_path)
    with pytest.raises(UsageError, match=r"sparseformer-bootstrap' with image tower 'vit'"):
        Method(DualEncoder(preset("tiny")), Options(teacher=teacher))
    wide = bootstrap(DualEncoder(preset("tiny").model_copy(update={"embed_dim": 16})), **SMALL)
    with pytest.raises(UsageError, match="32 dimensions"):
        Method(wide, Options(teacher=teacher))
