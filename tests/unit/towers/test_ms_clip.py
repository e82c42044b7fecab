"""Two towers that share weights: counted, trained and stored once; what is each side's own stays so."""

from __future__ import annotations

import copy
import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from diptych.core.errors import DiptychError, UsageError
from diptych.core.types import Tokens
from diptych.engine.build import build_loader, build_model
from diptych.engine.loop import train
from diptych.engine.optim import Ema
from diptych.engine.parallel import Ranks
from diptych.engine.step import Stepper, freeze
from diptych.tokens.random_mask import random_mask
from diptych.towers.base import count_parameters
from diptych.towers.build import build_image_tower
from diptych.towers.dual import DualConfig, DualEncoder
from diptych.towers.formats.load import load
from diptych.towers.formats.native import save_native
from diptych.towers.formats.open_clip import save_open_clip
from diptych.towers.presets import preset
from diptych.towers.specialised import SpecialisedConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))

from toys import Toys, run

CPU = Ranks(0, 1, 0, torch.device("cpu"))
MS = "init.preset=ms-clip-tiny"
SPECIALISED = SpecialisedConfig(
    image_size=(16, 24), patch=8, width=16, depth=2, heads=2, mlp=40, stem=(8, 8, 16), branch=(8, 16), lateral=(0, 1)
)


def twin():
    path = Path(__file__).parents[2] / "reference" / "ms_clip.py"
    spec = importlib.util.spec_from_file_location("reference_ms_clip", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shared_names(model: DualEncoder) -> set[str]:
    """Names under which the text tower has a weight of the image tower."""
    image = set(model.image.parameters())
    return {name for name, value in model.text.named_parameters() if value in image}


def changed(text: dict) -> DualConfig:
    """The tiny shared model's config with settings of its text tower changed."""
    config = preset("ms-clip-tiny")
    return config.model_copy(update={"text": config.text.model_copy(update=text)})


@torch.no_grad()
def test_both_sides_blocks_equal_their_reference_with_one_set_of_weights() -> None:
    model = DualEncoder(preset("ms-clip-tiny"), seed=3).double()
    draw = torch.Generator().manual_seed(0)
    for value in model.parameters():
        value.add_(torch.randn(value.shape, generator=draw, dtype=value.dtype) * 0.1)
    image, text = model.image.blocks[1], model.text.blocks[1]
    attention, mlp = image.attention, image.mlp
    layers = {"qkv": attention.qkv, "out": attention.out, "up": mlp.up, "down": mlp.down}
    weights = {name: layer.weight.tolist() for name, layer in layers.items()}
    weights |= {f"{name}_bias": layer.bias.tolist() for name, layer in layers.items()}
    x_BTD = torch.randn(1, 5, 32, generator=draw, dtype=torch.float64)
    for block, causal in ((image, False), (text, True)):
        norms = [(norm.weight.tolist(), norm.bias.tolist()) for norm in (block.norm1, block.norm2)]
        wanted = twin().reference(x_BTD[0].tolist(), weights, norms, 2, causal)
        torch.testing.assert_close(block(x_BTD)[0], torch.tensor(wanted, dtype=torch.float64), rtol=1e-11, atol=1e-12)


def test_shared_parameters_are_counted_once_and_are_attention_and_mlp() -> None:
    ours, plain = DualEncoder(preset("ms-clip-tiny")), DualEncoder(preset("tiny"))
    blocks = sum(count_parameters(part) for block in plain.text.blocks for part in (block.attention, block.mlp))
    assert count_parameters(ours) == count_parameters(plain) - blocks
    assert {name.split(".")[2] for name in shared_names(ours)} == {"attention", "mlp"}
    assert ours.text.blocks[0].norm1.weight is not ours.image.blocks[0].norm1.weight


def test_config_says_what_is_shared() -> None:
    everything = DualEncoder(changed({"parts": ("attention", "mlp", "norms")}))
    assert {name.split(".")[2] for name in shared_names(everything)} == {"attention", "mlp", "norm1", "norm2"}
    attention = DualEncoder(changed({"parts": ("attention",)}))
    assert {name.split(".")[2] for name in shared_names(attention)} == {"attention"}
    later = DualEncoder(changed({"depth": 3, "private": 1}))
    assert {name.split(".")[1] for name in shared_names(later)} == {"1", "2"}
    assert later.text.blocks[1].mlp is later.image.blocks[0].mlp


@pytest.mark.parametrize(
    ("text", "word"),
    [({"width": 16, "heads": 2}, "width"), ({"mlp": 64}, "mlp"), ({"depth": 3}, "depth"), ({"activation": "silu"}, "activation")],
)
def test_towers_of_two_sizes_are_refused(text: dict, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        DualEncoder(changed(text))


def test_towers_without_transformer_blocks_are_refused() -> None:
    config = preset("ms-clip-tiny").model_copy(update={"image": preset("study-mamba").image})
    with pytest.raises(UsageError, match="mamba"):
        DualEncoder(config)


def test_folder_holds_shared_weights_once_and_gives_back_sharing_and_rows(tmp_path: Path) -> None:
    model = DualEncoder(preset("ms-clip-tiny"), seed=5).eval()
    save_native(model, tmp_path / "model")
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert sum(value.numel() for value in stored.values()) == count_parameters(model)
    again = load(str(tmp_path / "model"))
    assert shared_names(again) == shared_names(model)
    assert count_parameters(again) == count_parameters(model)
    pixels, words = torch.rand(3, 3, 32, 32), ["a red apple", "pear"]
    assert torch.equal(again.image_features(pixels), model.image_features(pixels))
    assert torch.equal(again.encode_text(words), model.encode_text(words))
    assert again.fingerprint() == model.fingerprint()


def test_other_formats_refuse_it(tmp_path: Path) -> None:
    with pytest.raises(DiptychError, match="shared"):
        save_open_clip(DualEncoder(preset("ms-clip-tiny")), tmp_path / "out")


def test_a_copy_shares_too() -> None:
    model = copy.deepcopy(DualEncoder(preset("ms-clip-tiny")))
    assert model.text.blocks[0].mlp is model.image.blocks[0].mlp


def test_gradient_of_a_shared_weight_is_the_sum_of_both_sides() -> None:
    model, batch = build_model(run(MS)), None
    with build_loader(run(MS), Toys(), model, CPU) as loader:
        batch = next(loader)
    weight = model.image.blocks[0].mlp.up.weight
    direction_D = torch.randn(32, generator=torch.Generator().manual_seed(0))

    def gradient(image: bool, text: bool) -> Tensor:
        total = torch.zeros(())
        if image:
            total = total + (model.image_features(batch.image_BCHW) @ direction_D).sum()
        if text:
            total = total + (model.text_features(batch.text_BL) @ direction_D).sum()
        return torch.autograd.grad(total, weight)[0]

    torch.testing.assert_close(gradient(True, True), gradient(True, False) + gradient(False, True))


def test_steps_update_shared_and_own_weights_once_each_and_resume_exactly(tmp_path: Path) -> None:
    whole = train(run(MS, "optim.ema=0.9"), tmp_path / "whole", dataset=Toys(), progress=False).model
    first = build_model(run(MS))
    before, after = first.state_dict(), whole.state_dict()
    assert [name for name in after if torch.equal(before[name], after[name])] == []
    assert whole.text.blocks[0].mlp is whole.image.blocks[0].mlp
    saved = sorted((tmp_path / "whole" / "checkpoints").glob("step-*"))[-1]
    kept = load_file(saved / "model.safetensors")
    assert sum(value.numel() for value in kept.values()) == count_parameters(whole)


def test_optimizer_and_average_hold_each_parameter_once() -> None:
    model = build_model(run(MS))
    stepper = Stepper(run(MS), model, CPU)
    held = [p for group in stepper.optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held)) == len(list(model.parameters()))
    assert sum(value.numel() for value in Ema(model, 0.9).average.values()) == count_parameters(model)


def test_one_of_two_sharing_towers_is_not_frozen_alone() -> None:
    for names in ({"text"}, {"image"}):
        with pytest.raises(UsageError, match="share"):
            freeze(build_model(run(MS)), names)
    both = build_model(run(MS))
    freeze(both, {"image", "text"})
    assert {name.split(".")[0] for name, p in both.named_parameters() if p.requires_grad} == {
        "image_projection",
        "text_projection",
        "log_scale",
    }


def test_branch_starts_without_effect_and_then_reaches_every_token() -> None:
    tower = build_image_tower(SPECIALISED).eval()
    bare = build_image_tower(SPECIALISED.model_copy(update={"branch": (), "lateral": ()})).eval()
    bare.load_state_dict({name: value for name, value in tower.state_dict().items() if not name.startswith(("branch", "adapters"))})
    pixels = torch.randn(2, 3, 16, 24)
    row_BD, taps = tower(pixels, taps={"image.tokens"})
    torch.testing.assert_close(row_BD, bare(pixels)[0], rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        for adapter in tower.adapters:
            adapter.pointwise.weight.normal_()
    moved = tower(pixels, taps={"image.tokens"})[1]["image.tokens"] - taps["image.tokens"]
    assert taps["image.tokens"].shape == (2, 6, 16)
    assert (moved.abs().amax(-1) > 1e-3).all()


def test_class_token_gets_the_mean_of_what_the_patches_get() -> None:
    config = SPECIALISED.model_copy(update={"branch": (8,), "lateral": (1,)})
    tower, pixels = build_image_tower(config).eval(), torch.randn(2, 3, 16, 24)
    torch.nn.init.normal_(tower.adapters[0].pointwise.weight)
    x_BTD = tower.embed(pixels).x_BTD
    for block in tower.blocks:
        x_BTD = block(x_BTD)
    added_BD = tower.adapters[0](tower.branch(pixels)[0]).mean(1)
    torch.testing.assert_close(tower(pixels)[0], tower.norm(x_BTD[:, 0] + added_BD))


def test_adapter_is_a_sum_over_each_patch_of_the_map() -> None:
    tower = build_image_tower(SPECIALISED).double()
    adapter, map_BCHW = tower.adapters[0], torch.randn(1, 8, 8, 12, dtype=torch.float64)
    torch.nn.init.normal_(adapter.pointwise.weight)
    depth, point = adapter.depthwise, adapter.pointwise
    found = adapter(map_BCHW)
    for row in range(2):
        for column in range(3):
            patch_CHW = map_BCHW[0, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            middle_C = (patch_CHW * depth.weight[:, 0]).sum((1, 2)) + depth.bias
            torch.testing.assert_close(found[0, 3 * row + column], point.weight @ middle_C + point.bias)


def test_token_methods_go_with_the_stem_and_not_with_the_branch() -> None:
    drop = random_mask(ratio=0.5)
    bare = build_image_tower(SPECIALISED.model_copy(update={"branch": (), "lateral": ()}))
    assert isinstance(bare.embed(torch.randn(1, 3, 16, 24)), Tokens)
    assert bare(torch.randn(1, 3, 16, 24), tokens=drop, taps={"image.tokens"})[1]["image.tokens"].shape == (1, 3, 16)
    with pytest.raises(UsageError, match="branch"):
        build_image_tower(SPECIALISED)(torch.randn(1, 3, 16, 24), tokens=drop)


def test_specialised_towers_share_all_but_the_first_text_block() -> None:
    model = DualEncoder(preset("study-ms-clip-s"))
    assert {int(name.split(".")[1]) for name in shared_names(model)} == {1, 2, 3}
    assert count_parameters(model) < count_parameters(DualEncoder(preset("study-pair")))
    with pytest.raises(ValueError, match="patch"):
        SpecialisedConfig.model_validate({**SPECIALISED.model_dump(), "stem": (8, 8)})
