"""LightCLIP: the matching beside exact transport, softening that grows, hidden words, and that every part learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from few_steps import few_steps
from scipy.optimize import linprog

from diptych.core.rng import generator
from diptych.core.types import Pairs
from diptych.data.tokenizers import Tokenizer
from diptych.objectives.pairs.lightclip import lightclip, matching
from diptych.objectives.parts.masked_words import hide, mask_id, words_of
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator(seed, "unit"), dtype=torch.float64), dim=-1)


def transport(similar: np.ndarray) -> float:
    """The exact value of matching two sets with even masses: a linear programme."""
    patches, words = similar.shape
    rows = np.kron(np.eye(patches), np.ones(words))
    columns = np.kron(np.ones(patches), np.eye(words))
    masses = np.concatenate([np.full(patches, 1 / patches), np.full(words, 1 / words)])
    found = linprog(-similar.ravel(), A_eq=np.concatenate([rows, columns]), b_eq=masses, bounds=(0, None))
    return -found.fun


@pytest.mark.parametrize("seed", range(4))
def test_the_relaxed_matching_is_a_bound_of_the_exact_one(seed):
    patches, words = unit(3, 5, 4, seed=seed), unit(3, 4, 4, seed=seed + 10)
    is_word = (torch.arange(4) < torch.tensor([[4], [2], [1]])).double()
    found = matching(patches, words, is_word)
    for i in range(3):
        for j in range(3):
            similar = (patches[i] @ words[j][is_word[j] > 0].T).numpy()
            exact = transport(similar)
            assert found[i, j].item() >= exact - 1e-9
            assert found[i, j].item() <= min(similar.max(0).mean(), similar.max(1).mean()) + 1e-12
    torch.testing.assert_close(found[:, 2], (patches @ words[2, 0]).mean(1))  # one word: every patch must take it, and this is exact


def test_padding_is_never_matched():
    patches, words = unit(2, 5, 4), unit(2, 4, 4, seed=1)
    is_word = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    changed = torch.where(is_word[..., None] > 0, words, 9.0)
    assert torch.equal(matching(patches, words, is_word), matching(patches, changed, is_word))


def pairs_at(progress: float) -> Pairs:
    image, text, concept = unit(4, 3), unit(4, 3, seed=1), torch.arange(4)
    seen = {"seen.image": image, "seen.text": text, "patches": unit(4, 2, 3), "words": unit(4, 2, 3, seed=2), "is_word": torch.ones(4, 2)}
    taps = seen | {"mlm": torch.zeros(4)}
    state = {"progress": torch.tensor(progress, dtype=torch.float64)}
    return Pairs(image, text, image, text, 0, torch.tensor(5.0, dtype=torch.float64), None, concept, concept, taps, taps, state)


def test_softening_grows_in_proportion_to_progress():
    """The target is linear in the share, and so is the cross-entropy."""
    values = [lightclip(pairs_at(progress), soften=0.4).terms["instance"].item() for progress in (0.0, 0.5, 1.0)]
    assert values[0] == pytest.approx(lightclip(pairs_at(1.0), soften=0.0).terms["instance"].item(), abs=1e-12)
    assert values[1] - values[0] == pytest.approx(values[2] - values[1], abs=1e-9)
    assert values[0] != pytest.approx(values[2], abs=1e-3)


def test_words_are_hidden_and_nothing_else():
    model = DualEncoder(preset("tiny"))
    assert model.tokenizer is not None
    ids = model.tokenizer(["ab", "a", ""])
    word = words_of(ids, model)
    assert word.sum(1).tolist() == [2, 1, 0]
    hidden, place, real = hide(ids, word, 2, 511, generator(0, "hide"))
    assert real.sum(1).tolist() == [2, 1, 0]
    assert (hidden == 511).sum(1).tolist() == [2, 1, 0]
    assert torch.equal(hidden[hidden != 511], ids[hidden != 511])
    assert torch.equal(hidden.gather(1, place)[real], torch.full((3,), 511))


def test_the_id_that_hides_is_no_word_of_its_own():
    assert mask_id(DualEncoder(preset("tiny"))) == 511  # 259 byte tokens, 512 rows in the table

    class Full:
        tokenizer = Tokenizer.clip(16)
        text = torch.nn.Sequential(torch.nn.Embedding(49408, 2))

    assert mask_id(Full()) == 49405  # the last merge: 49406 begins and 49407 ends a text


def test_every_part_learns():
    taught = few_steps("lightclip", steps=6)
    assert all(taught.moved().values()), taught.moved()
    first, last = taught.reports[0], taught.reports[-1]
    assert last["words"] < first["words"]
    assert last["instance"] < first["instance"]


def test_without_hidden_words_there_is_no_second_pass():
    taught = few_steps("lightclip", "objective.options={mlm: 0.0}", steps=2)
    assert taught.method.masked is None
    assert taught.reports[0]["words"] == 0.0
