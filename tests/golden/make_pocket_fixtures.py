"""Writes ``pocket.safetensors``: what the published packages' own code computes on two drawn pictures and six texts.

    pip install --no-deps efficientnet-lite-pytorch==0.1.0 && pip install transformers
    python tests/golden/make_pocket_fixtures.py --wheels WHEELS      (the folder that scripts/build_pocket.py reads)

``published_*``: their code with their weights. ``shipped_*``: their code with the weights that ship (16-bit matrices, normalisation
folded), put back into their layout. So our code is compared at 1e-4 with theirs, and the effect of rounding is seen apart from it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
TEXTS = (
    "a red apple",
    "",
    "Two dogs play in the snow with a yellow ball.",
    "Crème brûlée, naïve café",
    "三只猫 🐈 and 42 UNKNOWNWORDISHNESS!",
    "word " * 200,
)


def pictures(side: int = 224) -> Tensor:
    """Two fixed uint8 pictures (2, 3, side, side): a pattern with detail everywhere, and two discs on a gradient."""
    y, x, c = np.ogrid[:side, :side, :3]
    pattern = (x * y * (c + 1) // 16 + 3 * x + 2 * y * (c + 2) + 60 * c) % 256
    discs = (x + y) * 255 // (2 * side) + 0 * c
    discs = np.where((x - 70) ** 2 + (y - 90) ** 2 < 45**2, 220 - 90 * c, discs)
    discs = np.where((x - 160) ** 2 + (y - 140) ** 2 < 38**2, 40 + 100 * c, discs)
    return torch.from_numpy(np.stack([pattern, discs]).astype(np.uint8)).permute(0, 3, 1, 2).contiguous()


def peer_effnet(state: dict[str, Tensor]) -> torch.nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    peer = EfficientNet.from_name("efficientnet-lite0").eval()
    peer.load_state_dict(state)
    return peer


def peer_bert(state: dict[str, Tensor]) -> torch.nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    peer = BertModel(config, add_pooling_layer=False).eval()
    state = {name: value for name, value in state.items() if not name.startswith("pooler") and "position_ids" not in name}
    peer.load_state_dict(state)
    return peer


def unfold(state: dict[str, Tensor], peer: dict[str, Tensor], pairs: dict[str, tuple[str, str]]) -> dict[str, Tensor]:
    """Folded kernels and biases in the peer's layout: a normalisation that only adds the bias (mean 0, variance 1 − ε)."""
    out = dict(peer)
    for ours, (conv, norm) in pairs.items():
        bias = state[f"image.{ours}.bias"]
        out[f"{conv}.weight"], out[f"{norm}.bias"] = state[f"image.{ours}.weight"].float(), bias
        out[f"{norm}.weight"], out[f"{norm}.running_mean"] = torch.ones_like(bias), torch.zeros_like(bias)
        out[f"{norm}.running_var"] = torch.full_like(bias, 1 - 1e-3)
    out["_fc.weight"], out["_fc.bias"] = state["image_projection.classifier.weight"].float(), state["image_projection.classifier.bias"]
    return out


def unconvert_bert(state: dict[str, Tensor], peer: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """Our text tower in the peer's layout; positions past our context stay the peer's and are never read."""
    out = dict(peer)
    out["embeddings.word_embeddings.weight"] = state["text.token_embedding.weight"].float()
    position = peer["embeddings.position_embeddings.weight"].clone()
    position[: len(state["text.position_embedding"])] = state["text.position_embedding"].float()
    out["embeddings.position_embeddings.weight"] = position
    out["embeddings.token_type_embeddings.weight"] = torch.zeros_like(peer["embeddings.token_type_embeddings.weight"])
    for part in ("weight", "bias"):
        out[f"embeddings.LayerNorm.{part}"] = state[f"text.norm.{part}"].float()
        for index in range(6):
            block, layer = f"text.blocks.{index}", f"encoder.layer.{index}"
            for name, value in zip(("query", "key", "value"), state[f"{block}.qkv.{part}"].float().chunk(3), strict=True):
                out[f"{layer}.attention.self.{name}.{part}"] = value
            for ours, theirs in names.items():
                out[f"{layer}.{theirs}.{part}"] = state[f"{block}.{ours}.{part}"].float()
    return out


@torch.no_grad()
def outputs(effnet: torch.nn.Module, bert: torch.nn.Module, ids_BL: Tensor, mask_BL: Tensor, tag: str) -> dict[str, Tensor]:
    x_BCHW = (pictures().float() - 127) / 128
    pooled_BW = effnet.extract_features(x_BCHW).mean((2, 3))  # type: ignore[operator]
    states = bert(ids_BL, attention_mask=mask_BL).last_hidden_state
    text_BW = (states * mask_BL[..., None]).sum(1) / mask_BL.sum(1, keepdim=True)
    return {f"{tag}_pooled": pooled_BW, f"{tag}_logits": effnet(x_BCHW), f"{tag}_text": text_BW}


def main() -> None:
    import build_pocket as build
    from tokenizers import Tokenizer

    parser = argparse.ArgumentParser(description="Record what the published packages compute.")
    parser.add_argument("--wheels", type=Path, required=True)
    wheels = parser.parse_args().wheels
    tokenizer = Tokenizer.from_str(build.read(wheels, "tokenizer").decode())
    tokenizer.enable_padding(length=build.CONTEXT)
    tokenizer.enable_truncation(build.CONTEXT)
    encoded = tokenizer.encode_batch(list(TEXTS))
    ids_BL, mask_BL = torch.tensor([e.ids for e in encoded]), torch.tensor([e.attention_mask for e in encoded])
    effnet, minilm = build.load_states(wheels)
    found = outputs(peer_effnet(effnet), peer_bert(minilm), ids_BL, mask_BL, "published")
    state = load_file(build.FOLDER / "model.safetensors")
    ours = (unfold(state, effnet, build.effnet_pairs()), unconvert_bert(state, minilm, build.BERT_NAMES))
    found |= outputs(peer_effnet(ours[0]), peer_bert(ours[1]), ids_BL, mask_BL, "shipped")
    save_file(found | {"ids": ids_BL}, Path(__file__).with_name("pocket.safetensors"))


if __name__ == "__main__":
    main()
