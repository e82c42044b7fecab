"""PyramidCLIP: the rule for summaries, what softening does, and that both further inputs reach the towers."""

from __future__ import annotations

import random

import pytest
import torch
from few_steps import few_steps

from diptych.core.types import Pairs, Words
from diptych.objectives.pairs.clip import clip
from diptych.objectives.pairs.pyramidclip import VIEWS, pyramidclip, summary
from diptych.objectives.parts.contrast import targets


@pytest.mark.parametrize(
    ("caption", "short"),
    [
        ("lotion bottle, bottle, lotion, sunscreen", "lotion bottle"),
        ("A man on a horse, with a dog behind him. It rains.", "A man on a horse"),
        ("one two three four five six seven eight nine ten", "one two three four five six seven eight"),
        ("keycap: #", "keycap: #"),
        ("3.5 metres of rope.", "3.5 metres of rope"),
        ("  ", ""),
    ],
)
def test_summaries(caption, short):
    """Of the caption that is trained on, which may have been rewritten, not of the sample's others."""
    assert summary(Words("x", caption, ("other", caption)), random.Random(0)) == short


def test_softened_targets_by_hand():
    same = torch.tensor([[True, False, False, False], [True, True, False, False], [True, True, True, True]])
    found = targets(torch.zeros(3, 4), same, 0.3)
    torch.testing.assert_close(found[0], torch.tensor([0.7, 0.1, 0.1, 0.1]))
    torch.testing.assert_close(found[1], torch.tensor([0.35, 0.35, 0.15, 0.15]))
    torch.testing.assert_close(found[2], torch.full((4,), 0.25))


def test_shares_of_negatives_follow_their_weights():
    same = torch.tensor([[True, False, False]])
    found = targets(torch.zeros(1, 3), same, 0.4, torch.tensor([[9.0, 3.0, 1.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.3, 0.1]]))


def test_one_level_alone_is_clip():
    """With equal views, equal texts and nothing softened all four terms are CLIP's loss."""
    draw = torch.Generator().manual_seed(0)
    image, text = (torch.nn.functional.normalize(torch.randn(5, 4, generator=draw, dtype=torch.float64), dim=1) for _ in range(2))
    concept, taps = torch.tensor([0, 1, 1, 2, 3]), {"local": image, "short": text}
    pairs = Pairs(image, text, image, text, 0, torch.tensor(7.0), None, concept, concept, taps, taps)
    assert pyramidclip(pairs, soften=0.0, cross=0.3).total.item() == pytest.approx(clip(pairs).total.item(), rel=1e-6)


def test_the_local_view_shows_half_of_the_picture_or_more():
    assert VIEWS[0].crop_area == (0.5, 1.0)


def test_it_trains_and_sees_both_further_inputs():
    taught = few_steps("pyramidclip", steps=6)
    assert taught.losses[-1] < taught.losses[0]
    first = taught.reports[0]
    assert len({round(value, 6) for value in first.values()}) == 4
