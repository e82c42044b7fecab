"""Attachments: no change at first, exactly; off again bit for bit; merged they are an ordinary model; only what is attached is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from towers_world import OPEN_CLIP, inputs, rows, tiny

import diptych
from diptych.adapt.attach import LowRank, between, copy_of, linears, lora, norms, singular_values, trainable
from diptych.core.errors import DiptychError, UsageError
from diptych.core.rng import generator
from diptych.towers.dual import DualEncoder
from diptych.towers.formats.load import load, save
from diptych.towers.head import Head, HeadConfig

KINDS = ("clip", "siglip", "bert", "shared", "open_clip", "open_clip mean", "huggingface clip", "huggingface siglip")
CHANGES = {
    "lora": lambda model, layers: lora(model, layers, generator(0, "lora"), rank=2, alpha=3.0),
    "singular": singular_values,
}


@pytest.fixture
def parent(request, tmp_path: Path) -> DualEncoder:
    """A model of the kind, imported where the kind is a format of others."""
    kind = request.param
    if kind.startswith("open_clip"):
        return load(OPEN_CLIP / ("mean" if kind.endswith("mean") else "plain"))
    return imported(kind.split()[1], tmp_path) if kind.startswith("huggingface") else tiny(kind)


def imported(kind: str, folder: Path) -> DualEncoder:
    """A model of random weights that transformers wrote."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3}
    text = {**sizes, "vocab_size": 60, "max_position_embeddings": 9, "bos_token_id": 1, "pad_token_id": 0}
    vision = {**sizes, "image_size": 16, "patch_size": 8}
    torch.manual_seed(0)
    if kind == "clip":
        model = transformers.CLIPModel(
            transformers.CLIPConfig(text_config=text | {"eos_token_id": 59}, vision_config=vision, projection_dim=20)
        )
    else:
        text |= {"eos_token_id": 1, "projection_size": 24}
        model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision))
    model.save_pretrained(folder)
    processor = {"size": {"height": 16, "width": 16}, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return load(folder)


def every(test):
    """Each kind of model under each kind of change."""
    return pytest.mark.parametrize("parent", KINDS, indirect=True)(pytest.mark.parametrize("change", CHANGES)(test))


def shake(attached, seed: int = 1) -> None:
    """Other numbers in every change, as training leaves them."""
    draw = generator(seed, "shake")
    with torch.no_grad():
        for parameter in attached.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))


def state(model: DualEncoder) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def attach(change: str, model: DualEncoder):
    """The change on every linear layer of the model."""
    return CHANGES[change](model, linears(model))


@every
def test_nothing_changes_until_it_is_trained(parent: DualEncoder, change: str):
    before = rows(parent)
    made = copy_of(parent)
    attach(change, made)
    assert torch.equal(rows(made), before)


@every
def test_detached_it_is_the_parent_bit_for_bit_also_after_training(parent: DualEncoder, change: str):
    before = state(parent)
    made = copy_of(parent)
    attached = attach(change, made)
    pixels, ids = inputs(made)
    optimizer = torch.optim.AdamW(attached.parameters(), lr=1e-2, weight_decay=0.1)
    losses = []
    for _ in range(4):
        loss = -(made.image_features(pixels) @ made.text_features(ids).T).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert not torch.equal(rows(made), rows(parent))
    assert same(state(attached.detach()), before)
    assert same(state(parent), before)
    assert torch.equal(rows(made), rows(parent))


@every
def test_merged_it_computes_the_same_and_is_an_ordinary_model_that_loads_and_converts(parent: DualEncoder, change: str, tmp_path: Path):
    made = copy_of(parent)
    attached = attach(change, made)
    shake(attached)
    wanted = rows(made)
    assert float((wanted - rows(parent)).abs().max()) > 1e-3
    assert attached.merge() is made
    torch.testing.assert_close(rows(made), wanted, atol=1e-6, rtol=0)
    assert list(made.state_dict()) == list(parent.state_dict())
    assert made.config == parent.config
    assert all(type(ours) is type(theirs) for ours, theirs in zip(made.modules(), parent.modules(), strict=True))
    for format in ("native", "open_clip", "huggingface"):
        try:
            save(parent, tmp_path / format / "parent", format=format)  # type: ignore[arg-type]
        except DiptychError:
            continue
        save(made, tmp_path / format / "made", format=format)  # type: ignore[arg-type]
        torch.testing.assert_close(rows(load(tmp_path / format / "made")), wanted, atol=1e-6, rtol=0)


@every
def test_gradients_reach_the_change_and_nothing_else(parent: DualEncoder, change: str):
    made = copy_of(parent)
    originals = {id(parameter) for parameter in made.parameters()}
    made.requires_grad_(True)
    attached = attach(change, made)
    shake(attached)
    pixels, ids = inputs(made)
    (made.image_features(pixels).sum() + made.text_features(ids).square().sum() + made.text_features(ids).sum()).backward()
    assert all(parameter.grad is not None and bool(parameter.grad.isfinite().all()) for parameter in attached.parameters())
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in attached.parameters())  # type: ignore[union-attr]
    assert all(layer.parametrizations["weight"].original.grad is None for layer in attached.layers)  # type: ignore[index,union-attr]
    assert not originals & {id(parameter) for parameter in attached.parameters()}
    assert attached.numbers() == sum(parameter.numel() for parameter in attached.parameters())


@pytest.mark.parametrize("change", CHANGES)
def test_what_cannot_be_is_one_clear_line(change: str):
    made, other = tiny(), tiny(seed=1)
    attached = attach(change, made)
    with pytest.raises(UsageError, match="carries a change already"):
        attach(change, made)
    with pytest.raises(UsageError, match="another model's"):
        CHANGES[change](other, linears(made))
    layer = next(iter(linears(other).values()))
    with pytest.raises(UsageError, match="under two names"):
        CHANGES[change](other, {"a": layer, "b": layer})
    assert torch.equal(rows(other), rows(tiny(seed=1)))
    attached.detach()
    for method in (attached.detach, attached.merge):
        with pytest.raises(UsageError, match="merged or detached already"):
            method()
    again = attach(change, made)
    with pytest.raises(UsageError, match="merged or detached already"):
        attached.merge()
    again.merge()
    with pytest.raises(UsageError, match="image or text"):
        linears(made, towers=("images",))
    with pytest.raises(UsageError, match="no linear layers nothing"):
        linears(made, names=("nothing",))


def test_an_attached_model_is_not_saved_as_if_it_were_an_ordinary_one(tmp_path: Path):
    made = tiny()
    attach("lora", made)
    with pytest.raises(DiptychError):
        save(made, tmp_path / "model")
    assert not (tmp_path / "model" / "config.json").exists()


def test_layers_are_found_by_the_ends_of_their_names_and_shared_ones_once():
    assert list(linears(tiny(), ("image",), ("qkv",))) == [f"image.blocks.{i}.attention.qkv" for i in range(2)]
    assert list(linears(tiny(), ("text",), ("mlp.up", "out")))[:2] == ["text.blocks.0.attention.out", "text.blocks.0.mlp.up"]
    assert list(linears(tiny("bert"), ("text",), ("qkv", "up"))) == [f"text.blocks.{i}.{end}" for i in range(2) for end in ("qkv", "up")]
    assert len(linears(tiny("siglip"), ("image",), ("qkv",))) == 3  # the pooling attention too
    assert not any(name.endswith("kv") and not name.endswith("qkv") for name in linears(tiny(), names=("qkv",)))
    shared = linears(tiny("shared"))
    assert len(shared) == len({id(layer) for layer in shared.values()}) == 8
    assert all(name.startswith("image.") for name in shared)
    assert all(name.startswith("text.") for name in linears(tiny("conv")))
    with pytest.raises(UsageError, match="its image tower has no linear layers in blocks"):
        linears(tiny("conv"), ("image",))


@pytest.mark.parametrize(("rank", "alpha"), [(1, 1), (2, 1), (4, 16)])
def test_lora_is_pefts_layer_with_the_same_matrices(rank: int, alpha: int):
    kept = load_file(Path(__file__).resolve().parents[2] / "golden" / "peft_lora.safetensors")
    theirs = {name.split(".")[2]: value for name, value in kept.items() if name.startswith(f"{rank}.{alpha}.")}
    change = LowRank(theirs["weight"], rank, alpha / rank, 1, generator(0, "peft"))
    with torch.no_grad():
        assert change.down.shape == (1, *theirs["down"].shape)
        change.down.copy_(theirs["down"])
        change.up.copy_(theirs["up"])
        weight = change(theirs["weight"])
        torch.testing.assert_close(F.linear(theirs["x"], weight, theirs["bias"]), theirs["y"], atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(weight, theirs["merged"], atol=1e-6, rtol=1e-6)


def test_a_fused_weight_is_three_matrices_each_changed_by_itself():
    model = tiny()
    layers = linears(model, ("image",), ("qkv",))
    weight = next(iter(layers.values())).weight.detach().clone()
    attached = lora(model, layers, generator(0, "parts"), rank=2, alpha=1.0)
    shake(attached)
    layer = attached.layers[0]
    up, down = attached.changes[0].up.detach(), attached.changes[0].down.detach()  # type: ignore[union-attr]
    by_hand = torch.cat([weight[16 * p : 16 * (p + 1)] + 0.5 * up[p] @ down[p] for p in range(3)])  # type: ignore[index]
    torch.testing.assert_close(layer.weight, by_hand)
    assert attached.numbers() == 2 * 3 * (2 * 16 + 16 * 2)


def test_singular_values_are_the_matrices_own_and_what_is_added_to_them_is_what_the_result_has():
    model = tiny()
    layers = linears(model, names=("mlp.down", "qkv"))
    before = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    attached = singular_values(model, layers)
    for (name, layer), change in zip(layers.items(), attached.changes, strict=True):
        parts = 3 if name.endswith("qkv") else 1
        wanted = torch.linalg.svdvals(before[name].double().unflatten(0, (parts, -1)))
        torch.testing.assert_close(change.start.double(), wanted, atol=1e-6, rtol=1e-6)  # type: ignore[operator,union-attr]
        with torch.no_grad():
            change.change.copy_(0.5 * wanted)  # type: ignore[operator,union-attr]
        now = torch.linalg.svdvals(layer.weight.detach().double().unflatten(0, (parts, -1)))
        torch.testing.assert_close(now, 1.5 * wanted, atol=1e-5, rtol=1e-5)


def test_norms_are_each_found_once_and_a_tower_without_is_told():
    assert len(norms(tiny())) == 2 * (1 + 2 * 2 + 1)  # before the blocks, two a block, behind them
    assert len(norms(tiny("shared"), ("image", "text"))) == len({id(p) for p in norms(tiny("shared"), ("image", "text"))})
    with pytest.raises(UsageError, match="its image tower has no layer norm"):
        norms(tiny("conv"))
    with pytest.raises(UsageError, match="image or text"):
        norms(tiny(), ("picture",))


def test_what_is_trainable_inside_is_as_it_was_outside():
    made = copy_of(tiny())
    assert not any(parameter.requires_grad for parameter in made.parameters())
    with torch.no_grad(), trainable(norms(made)) as chosen:
        made.image_features(inputs(made)[0]).sum().backward()
        assert all(parameter.grad is not None for parameter in chosen)
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in made.parameters())


@pytest.mark.parametrize("kind", ["clip", "shared", "bert"])
def test_between_is_the_weighted_mean_and_its_ends_are_the_models(kind: str):
    parent, child = tiny(kind), tiny(kind, seed=1)
    assert torch.equal(rows(between(parent, child, 0.0)), rows(parent))
    assert torch.equal(rows(between(parent, child, 1.0)), rows(child))
    kept = state(parent), state(child)
    for name, value in between(parent, child, 0.3).state_dict().items():
        torch.testing.assert_close(value.double(), 0.7 * kept[0][name].double() + 0.3 * kept[1][name].double(), atol=1e-6, rtol=1e-6)
    assert same(state(parent), kept[0])
    assert same(state(child), kept[1])
    with pytest.raises(UsageError, match="not the same towers"):
        between(parent, tiny("siglip"), 0.5)


def test_between_keeps_the_childs_head_and_an_attached_copy_can_be_copied():
    parent, child = tiny(), tiny(seed=1)
    head = Head.of(HeadConfig(classes=("a", "b"), width=16), weight=torch.ones(2, 16))
    made = between(parent, child.with_head(head), 0.5)
    assert made.head is not None
    assert torch.equal(made.head.weight, head.weight)
    attached = attach("lora", child)
    shake(attached)
    assert torch.equal(rows(copy_of(child)), rows(child))
    assert not torch.equal(rows(child), rows(attached.detach()))


def test_mini_carries_changes_in_both_towers():
    model = copy_of(diptych.load("mini"))
    before = rows(model)
    attached = singular_values(model, linears(model))
    assert torch.equal(rows(model), before)
    assert attached.numbers() == 3 * (3 * 256 + 3 * 256) + 3 * (3 * 192 + 3 * 192)
    assert same(state(attached.detach()), state(diptych.load("mini")))
