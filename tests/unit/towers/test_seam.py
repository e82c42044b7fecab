"""The seam between attention and MLP: what a method sees there, and which methods and towers do not go together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from test_towers import IMAGES, VIT, picture, randomise, slow_norm
from torch import Tensor

from diptych.core.errors import UsageError
from diptych.core.types import Middle, Tokens
from diptych.towers.build import build_image_tower
from diptych.towers.layers import Block

BOTH = frozenset({"keys", "class_attention"})


@dataclass
class Watch:
    """Notes what it is shown, and drops the last token where it acts."""

    uses: frozenset[str] = BOTH
    at: tuple[int, ...] = (0, 1)
    drop: int = 0
    seen: list[Middle] = field(default_factory=list)
    shapes: list[int] = field(default_factory=list)
    name = "watch"

    def after_embed(self, tokens: Tokens) -> Tokens:
        return tokens

    def after_block(self, index: int, tokens: Tokens) -> Tokens:
        self.shapes.append(tokens.x_BTD.shape[1])
        return tokens

    def acts(self, index: int, depth: int) -> bool:
        return index in self.at

    def between(self, tokens: Tokens, middle: Middle) -> Tokens:
        self.seen.append(middle)
        return replace(tokens, x_BTD=tokens.x_BTD[:, : tokens.x_BTD.shape[1] - self.drop])


def looked(x_TD: Tensor, block: Block) -> tuple[Tensor, Tensor]:
    """Keys and the attention of token 0, averaged over heads, in float64 loops."""
    attention, width = block.attention, x_TD.shape[1]
    normed_TD = slow_norm(x_TD, block.norm1)
    weight, bias = attention.qkv.weight.double(), attention.qkv.bias.double()
    q_TD, k_TD = (normed_TD @ weight[i * width : (i + 1) * width].T + bias[i * width : (i + 1) * width] for i in (0, 1))
    size = width // attention.heads
    heads = [slice(head * size, (head + 1) * size) for head in range(attention.heads)]
    keys_TK = sum(k_TD[:, head] for head in heads) / len(heads)
    chances = [torch.stack([q_TD[0, head] @ k_TD[t, head] / size**0.5 for t in range(len(x_TD))]).softmax(0) for head in heads]
    return keys_TK, sum(chances) / len(heads)


def test_a_method_sees_keys_and_class_attention() -> None:
    tower, watch = randomise(build_image_tower(VIT)), Watch(at=(0,))
    x = picture(VIT)
    tower(x, tokens=watch)
    middle = watch.seen[0]
    assert (middle.index, middle.depth) == (0, 2)
    for row, x_TD in enumerate(tower.embed(x).x_BTD.double()):
        keys_TK, class_T = looked(x_TD, tower.blocks[0])
        torch.testing.assert_close(middle.keys_BTK[row].double(), keys_TK, atol=1e-5, rtol=0)
        torch.testing.assert_close(middle.class_BT[row].double(), class_T, atol=1e-5, rtol=0)
    torch.testing.assert_close(middle.class_BT.sum(1), torch.ones(2))


def test_class_attention_counts_sizes() -> None:
    """A token of size 2 draws the class token's attention of two equal tokens."""
    block = randomise(Block(16, 2, 24))
    x_BTD = torch.randn(1, 3, 16)
    q, k, _ = map(block.attention._split, block.attention.qkv(block.norm1(x_BTD)).chunk(3, dim=-1))
    twice = block.attention.look(q, torch.cat([k, k[:, :, 2:]], dim=2), None, BOTH)["class_attention"][0]
    merged = block.attention.look(q, k, torch.tensor([1.0, 1.0, 2.0]).log()[None, None, None], BOTH)["class_attention"][0]
    torch.testing.assert_close(merged, torch.stack([twice[0], twice[1], twice[2] + twice[3]]))


def test_the_mlp_works_on_what_the_method_leaves() -> None:
    """Dropping a token between attention and MLP leaves the others as they are in the whole block."""
    tower, watch = randomise(build_image_tower(VIT)), Watch(at=(1,), drop=1)
    x = picture(VIT)
    tower(x, tokens=watch)
    assert watch.shapes == [7, 6]
    assert len(watch.seen) == 1
    before = tower.blocks[0](tower.embed(x).x_BTD)
    whole, kept = tower.blocks[1](before), []
    seam = type("Seam", (), {"uses": frozenset(), "__call__": lambda self, x_BTD, seen: kept.append(seen) or x_BTD[:, :-1]})()
    torch.testing.assert_close(tower.blocks[1](before, seam=seam), whole[:, :-1], atol=1e-6, rtol=1e-5)
    assert kept == [{}]


def test_only_what_is_used_is_computed() -> None:
    tower = randomise(build_image_tower(VIT))
    for uses in (frozenset(), frozenset({"keys"}), frozenset({"class_attention"})):
        watch = Watch(uses=uses)
        tower(picture(VIT), tokens=watch)
        assert [(m.keys_BTK is not None, m.class_BT is not None) for m in watch.seen] == [("keys" in uses, "class_attention" in uses)] * 2


@pytest.mark.parametrize("index", [1, 2, 3])
def test_without_a_class_token_its_attention_is_refused(index: int) -> None:
    tower = randomise(build_image_tower(IMAGES[index]))
    x = picture(IMAGES[index])
    plain, _ = tower(x)
    keys, _ = tower(x, tokens=Watch(uses=frozenset({"keys"})))
    torch.testing.assert_close(keys, plain, atol=1e-5, rtol=1e-5)
    with pytest.raises(UsageError, match=rf"'watch' with image tower '{IMAGES[index].kind}'.*no class token"):
        tower(x, tokens=Watch())


def test_a_tower_without_blocks_refuses_every_method() -> None:
    tower = build_image_tower(IMAGES[4])
    with pytest.raises(UsageError, match=r"'watch' with image tower 'conv'.*no blocks"):
        tower(picture(IMAGES[4]), tokens=Watch(uses=frozenset()))


def test_blocks_without_attention_refuse_the_seam() -> None:
    tower = build_image_tower(VIT)
    tower.gives = frozenset()
    with pytest.raises(UsageError, match="inside attention blocks"):
        tower(picture(VIT), tokens=Watch(uses=frozenset()))
