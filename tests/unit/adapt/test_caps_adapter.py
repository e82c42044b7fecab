"""CapS-Adapter: equal to its loop, better than either cache alone where pictures and captions err apart, clear about what it lacks."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rows_world import right, world

from diptych.adapt.training_free.caps_adapter import caps_adapter
from diptych.adapt.training_free.tip_adapter import tip_adapter
from diptych.core.errors import UsageError

REFERENCE = runpy.run_path(str(Path(__file__).resolve().parents[2] / "reference" / "caps_adapter.py"))["logits"]


@pytest.mark.parametrize("options", [{"alpha": 1.0, "beta": 5.5, "share": 0.3}, {"alpha": 2.0, "beta": 2.0, "share": 0.7, "centre": True}])
def test_equals_the_loop_with_two_captions_and_with_none(options):
    shots, asked, _, _ = world((2, 5, 3, 4), gap=0.5)
    captions = (("class 0, red", "class 0, in the rain"), (), *shots.captions[2:])
    shots = replace(shots, captions=captions)
    rows = [[shots.encode([one])[0].double().tolist() for one in own] for own in captions]
    given = [shots.image_SD.double().tolist(), shots.label_S.tolist(), shots.text_KD.double().tolist(), shots.scale]
    twin = REFERENCE(*given, asked[:6].double().tolist(), captions=rows, **options)
    assert torch.allclose(caps_adapter(shots, **options)(asked[:6]).double(), torch.tensor(twin).double(), atol=2e-5, rtol=1e-5)


def test_without_captions_share_it_is_tip_adapter():
    shots, asked, _, _ = world()
    assert torch.equal(caps_adapter(shots, share=0.0)(asked), tip_adapter(shots)(asked))


def test_with_one_picture_a_class_pictures_and_captions_together_beat_either_and_the_words():
    found = []
    for seed in range(5):
        shots, asked, label, _ = world((1,) * 8, width=16, spread=0.3, text=0.3, seed=seed)
        heads = [caps_adapter(shots, alpha=300.0, share=share) for share in (0.0, 0.5, 1.0)]
        found.append([right(head(asked), label) for head in (*heads, shots.zero_shot())])
    pictures, both, captions, words = torch.tensor(found).mean(0).tolist()
    assert both > pictures + 0.08
    assert both > captions + 0.03
    assert both > words + 0.1


def test_centring_undoes_a_gap_between_words_and_pictures():
    shots, asked, label, _ = world((4,) * 8, width=16, spread=0.3, text=0.3, gap=1.0)
    plain, centred = (caps_adapter(shots, alpha=30.0, beta=10.0, share=0.6, centre=centre)(asked) for centre in (False, True))
    assert right(centred, label) > right(plain, label)


def test_it_says_what_it_lacks():
    shots, *_ = world()
    with pytest.raises(UsageError, match="no labelled picture has a caption"):
        caps_adapter(replace(shots, captions=((),) * 24))
    with pytest.raises(UsageError, match="no text tower"):
        caps_adapter(replace(shots, encode=None))
