"""What teaches the shipped model its words."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from diptych.data import pictograms
from diptych.recipes.teach import Lesson, _loss, lesson, make_tokenizer, teach, wordnet
from diptych.towers.bert import BertConfig
from diptych.towers.dual import DualConfig, DualEncoder
from diptych.towers.presets import preset

WORDNET = {
    "dict/index.sense": "apple%1:13:00:: 00000001 1 5\nzymosis%1:22:00:: 00000002 1 0\nrun%2:38:00:: 00000003 1 9\n",
    "dict/data.noun": (
        "  1 a licence line\n"
        "00000001 13 n 02 apple 0 orchard_apple 0 000 | a round fruit; eaten raw\n"
        "00000002 22 n 01 zymosis 0 000 | a process\n"
        "00000004 05 n 02 kea 0 Nestor_notabilis 0 000 | a large parrot\n"
    ),
    "dict/data.verb": "00000003 38 v 01 run 0 001 | move fast\n",
    "dict/data.adj": "",
    "dict/data.adv": "",
}


def test_wordnet_keeps_used_words_and_drawable_things():
    assert wordnet(WORDNET.__getitem__) == ["apple", "kea", "orchard apple", "run", "a round fruit", "run: move fast"]


def test_a_lesson_has_no_corpus_word_of_an_unseen_concept_and_maps_names_to_english():
    made = lesson(["kea"])
    assert made.texts[-1] == "kea"
    assert made.targets[made.english[-1]] == "kea"
    trained = [c for c in pictograms.concepts() if not c.unseen]
    carried = {c.names[language] for c in trained for language in ("en", "de")} | {text for c in trained for text in c.captions}
    unseen = {c.names[language] for c in pictograms.concepts() if c.unseen for language in ("en", "de")}
    assert unseen & set(made.texts) <= carried  # a word that a trained concept carries too, as "thumbs up" might
    assert len(unseen - set(made.texts)) > 250
    apple = next(c for c in pictograms.concepts() if c.name == "green apple")
    at = made.texts.index(apple.names["de"])
    assert made.targets[made.english[at]] == "green apple"
    assert all(not pictograms.concepts()[index].unseen for index in made.concept[: made.corpus])
    assert pictograms.concepts()[made.concept[at]].name == "green apple"
    assert made.concept[-1] == -1
    assert len(made.concept) == len(made.texts)


def test_teaching_draws_texts_to_their_targets():
    texts = ["a red apple", "roter Apfel", "a green pear", "grüne Birne", "kea", "a large parrot, seen in the mountains of the south"]
    made = Lesson(
        texts, [0, 0, 1, 1, 2, 3], ["a red apple", "a green pear", "kea", "a large parrot"], corpus=4, concept=[0, 0, 1, 1, -1, -1]
    )
    tokenizer = make_tokenizer(texts, 300, 24)
    text = BertConfig(width=32, depth=1, heads=2, mlp_width=64, vocab=tokenizer.vocab, context=24)
    config = DualConfig.model_validate({**dict(preset("demo")), "text": text, "embed_dim": 16, "tokenizer": tokenizer.config})
    model = DualEncoder(config, tokenizer)
    target_MD = functional.normalize(torch.randn(4, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    before, lines = {name: value.clone() for name, value in model.image.state_dict().items()}, []
    teach(model, made, target_MD, steps=100, batch=16, say=lines.append)
    cosine_M = (model.encode_text(texts) * target_MD[torch.tensor(made.english)]).sum(1)
    assert cosine_M.min() > 0.8
    assert all(torch.equal(value, before[name]) for name, value in model.image.state_dict().items())
    assert lines[0].startswith("teach: step 100 of 100")
    assert tokenizer.decode(tokenizer(["a red apple"])[0]) == "a red apple"


def test_meeting_pictures_tells_concepts_apart_and_ignores_concepts_without_one():
    row_GD = functional.normalize(torch.tensor([[1.0, 0.1], [0.2, 1.0], [1.0, 1.0]]), dim=-1)
    made = Lesson(["a", "b", "c"], [0, 0, 0], ["a"], corpus=2, concept=[0, 2, -1])
    picture_KD = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    target_MD = torch.tensor([[1.0, 0.0]])
    loss, cosine = _loss(row_GD, torch.tensor([0, 1, 2]), made, target_MD, picture_KD, torch.tensor(2.0))
    expected = sum(1 - float(row[0]) for row in row_GD)
    for row, right in ((row_GD[0], 0), (row_GD[1], 1)):
        e = [math.exp(2 * float(row[0])), math.exp(2 * float(row[1]))]  # the concept without a picture is no choice
        expected -= math.log(e[right] / sum(e))
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert cosine == pytest.approx(float(row_GD[:, 0].sum()), rel=1e-5)
