"""The BERT-style text tower against the peer's own code with the same random weights, and what padding must not do."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.towers.bert import BertConfig, BertTower
from diptych.towers.build import build_text_tower, parse_text_config

CONFIG = BertConfig(width=24, depth=2, heads=3, mlp_width=48, vocab=50, context=12)
NAMES = {
    "out": "attention.output.dense",
    "norm_attention": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm_mlp": "output.LayerNorm",
}


def random_tower(config: BertConfig = CONFIG) -> BertTower:
    tower = BertTower(config).eval()
    draw = generator(5, "bert")
    for parameter in tower.parameters():
        parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    return tower


def ids(lengths: tuple[int, ...] = (12, 5, 2, 8)) -> torch.Tensor:
    draw = generator(6, "ids")
    table = torch.zeros(len(lengths), CONFIG.context, dtype=torch.int64)
    for row, length in enumerate(lengths):
        table[row, :length] = torch.randint(1, CONFIG.vocab, (length,), generator=draw)
    return table


def to_peer(tower: BertTower) -> dict[str, torch.Tensor]:
    ours = tower.state_dict()
    state = {
        "embeddings.word_embeddings.weight": ours["token_embedding.weight"],
        "embeddings.position_embeddings.weight": ours["position_embedding"] - 0.25,
        "embeddings.token_type_embeddings.weight": torch.full((2, CONFIG.width), 0.25),
        "embeddings.LayerNorm.weight": ours["norm.weight"],
        "embeddings.LayerNorm.bias": ours["norm.bias"],
    }
    for index in range(CONFIG.depth):
        for part in ("weight", "bias"):
            for name, value in zip(("query", "key", "value"), ours[f"blocks.{index}.qkv.{part}"].chunk(3), strict=True):
                state[f"encoder.layer.{index}.attention.self.{name}.{part}"] = value
            for name, theirs in NAMES.items():
                state[f"encoder.layer.{index}.{theirs}.{part}"] = ours[f"blocks.{index}.{name}.{part}"]
    return state


def test_same_rows_as_the_peer() -> None:
    transformers = pytest.importorskip("transformers")
    shape = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
    config = transformers.BertConfig(vocab_size=50, max_position_embeddings=12, hidden_act="gelu", layer_norm_eps=1e-12, **shape)
    peer = transformers.BertModel(config, add_pooling_layer=False).eval()
    tower = random_tower()
    missing, unexpected = peer.load_state_dict(to_peer(tower), strict=False)
    assert not unexpected
    assert all("position_ids" in name for name in missing)
    ids_BL = ids()
    mask_BL = (ids_BL != 0).long()
    with torch.no_grad():
        states = peer(ids_BL, attention_mask=mask_BL).last_hidden_state
        expected = (states * mask_BL[..., None]).sum(1) / mask_BL.sum(1, keepdim=True)
        got, taps = tower(ids_BL, taps=frozenset({"text.tokens"}))
    assert torch.allclose(got, expected, atol=1e-5)
    assert torch.allclose(taps["text.tokens"][mask_BL.bool()], states[mask_BL.bool()], atol=1e-5)


def test_padding_has_no_effect() -> None:
    tower, ids_BL = random_tower(), ids((5, 5, 3))
    with torch.no_grad():
        whole, cropped, alone = tower(ids_BL)[0], tower(ids_BL[:, :5])[0], tower(ids_BL[2:, :3])[0]
    assert torch.allclose(whole, cropped, atol=1e-6)
    assert torch.allclose(whole[2:], alone, atol=1e-6)


def test_every_real_token_counts() -> None:
    tower, ids_BL = random_tower(), ids((6,))
    with torch.no_grad():
        before = tower(ids_BL)[0]
        for position in range(6):
            changed = ids_BL.clone()
            changed[0, position] = changed[0, position] % (CONFIG.vocab - 1) + 1
            assert not torch.allclose(tower(changed)[0], before, atol=1e-3)


def test_built_by_kind_and_refuses_nonsense() -> None:
    tower = build_text_tower(parse_text_config(CONFIG.model_dump()))
    assert isinstance(tower, BertTower)
    assert (tower.width, tower.context, tower.pad_id, tower.causal) == (24, 12, 0, False)
    with pytest.raises(UsageError, match="tap"):
        tower(ids(), taps=frozenset({"image.tokens"}))
    with pytest.raises(ValidationError, match="not divisible"):
        BertConfig(width=10, heads=3)
    with pytest.raises(ValidationError, match="outside a vocabulary"):
        BertConfig(vocab=5, pad_id=5)
