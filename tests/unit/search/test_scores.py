"""Scores against other ways of computing them; and that they tell searches with an answer from those without better than a cosine does."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_folder import draw
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from diptych.data import pictograms
from diptych.search import feedback
from diptych.search.background import Background, background, concepts, names
from diptych.search.build import build
from diptych.search.feedback import Mark
from diptych.search.index import Index
from diptych.search.query import Query
from diptych.search.score import Calibration, Crowd, features, fit, logistic, together


def unit(draw_, *shape):
    made = draw_.standard_normal(shape)
    return made / np.linalg.norm(made, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def known(mini, tmp_path_factory) -> Background:
    return background(mini, tmp_path_factory.mktemp("background"), "t")


def test_features_are_those_of_the_formula():
    """The docstring's formula as a loop over single similarities."""
    draw_ = np.random.default_rng(0)
    query, hits, bank, own, other = (unit(draw_, n, 6) for n in (3, 4, 5, 60, 70))
    found = features(query, hits, [Crowd.of(own), Crowd.of(other)], bank)
    for q in range(3):
        for h in range(4):
            s = query[q] @ hits[h]
            z = max((s - np.mean(crowd @ query[q])) / np.std(crowd @ query[q]) for crowd in (own, other))
            margin = s - max(rival @ hits[h] for rival in bank)
            assert found[q, h] == pytest.approx([1.0, z, margin], abs=1e-9)


def test_logistic_regression_agrees_with_scikit_learn():
    draw_ = np.random.default_rng(0)
    x = np.c_[np.ones(300), draw_.standard_normal((300, 2))]
    y = (draw_.random(300) < logistic(x @ np.array([-0.5, 2.0, -1.0]))).astype(float)
    free = fit(x, y, np.zeros(3), np.full(3, 1e4))
    peer = LogisticRegression(C=1e8, tol=1e-10, max_iter=1000).fit(x[:, 1:], y)
    assert free == pytest.approx([peer.intercept_[0], *peer.coef_[0]], abs=1e-4)
    shifted = fit(x, y, np.zeros(3), np.full(3, 1e4), np.full(300, -3.0))
    assert shifted == pytest.approx(free + np.array([3.0, 0, 0]), abs=1e-4)
    ridge = fit(x[:, 1:], y, np.zeros(2), np.full(2, 0.5))
    peer = LogisticRegression(C=0.25, tol=1e-10, max_iter=1000, fit_intercept=False).fit(x[:, 1:], y)
    assert ridge == pytest.approx(peer.coef_[0], abs=1e-4)


def test_nothing_said_changes_nothing_and_separable_marks_stay_finite():
    prior = np.array([-7.0, 2.0, 15.0])
    assert fit(np.empty((0, 3)), np.empty(0), prior, np.ones(3)) == pytest.approx(prior)
    x = np.array([[1.0, 9.0, 0.3]] * 20 + [[1.0, -9.0, -0.3]] * 20)
    assert np.isfinite(fit(x, np.array([1.0] * 20 + [0.0] * 20), prior, np.array([1.5, 1.0, 5.0]))).all()


def test_odds_fall_with_the_size_of_the_index():
    calibration, x = Calibration(np.array([-7.0, 2.0, 15.0]), 200), np.array([1.0, 4.0, 0.0])
    at = {n: float(calibration.probability(x, n)) for n in (1, 200, 2000)}
    assert at[1] == at[200]
    odds = {n: p / (1 - p) for n, p in at.items()}
    assert odds[200] / odds[2000] == pytest.approx(10.0)


def test_parts_together():
    score = np.array([[0.9], [0.4], [0.8]])
    assert together(score[:1], np.array([3.0])) == pytest.approx([0.9])
    assert together(score[:2], np.array([1.0, 1.0])) == pytest.approx([(0.9 * 0.4) ** 0.5])
    assert together(score, np.array([1.0, 3.0, -0.5])) == pytest.approx([0.9**0.25 * 0.4**0.75 * 0.2**0.5])


def test_the_score_says_better_than_the_cosine_whether_there_is_an_answer(mini, known):
    """Half of 300 concepts are taken out of one unseen style's drawings; scikit-learn's AUROC of both numbers."""
    every = [c for c in concepts() if c % 4 == 0][:300]
    gone = set(every[::2])
    samples = [s for s in pictograms.samples("style", ["twemoji"]) if s.label in set(every) - gone]
    rows_ND, query_QD = mini.encode_image(samples).numpy(), mini.encode_text([pictograms.concepts()[c].name for c in every]).numpy()
    there = {s.label for s in samples}
    top_Q = (query_QD @ rows_ND.T).argmax(1)
    crowds = [known.crowd, Crowd.of(rows_ND)]
    every_QHF = features(query_QD, rows_ND[top_Q], crowds, known.names_MD)
    score_Q = known.words.probability(every_QHF[np.arange(len(every)), np.arange(len(every))], len(rows_ND))
    cosine_Q = (query_QD * rows_ND[top_Q]).sum(1)
    has = np.array([c in there for c in every])
    right = np.array([samples[t].label == c for t, c in zip(top_Q, every, strict=True)])
    assert roc_auc_score(has, score_Q) > roc_auc_score(has, cosine_Q) + 0.005
    assert roc_auc_score(right, score_Q) > roc_auc_score(right, cosine_Q) + 0.01
    assert abs(score_Q.mean() - right.mean()) < 0.15, "a probability: its mean is near the share that is right"


def test_words_that_fit_every_picture_of_a_folder_are_answered(tmp_path, mini):
    at = next(i for i in concepts() if pictograms.concepts()[i].name == "bicycle")
    for sample in pictograms.samples("train"):
        if sample.label == at:
            (tmp_path / "p").mkdir(exist_ok=True)
            (tmp_path / "p" / f"{sample.id}.webp").write_bytes(sample.image)  # type: ignore[arg-type]
    index = Index.build(tmp_path / "p", tmp_path / "i", mini)[0]
    assert index.search(Query.of("bicycle")).answer
    assert not index.search(Query.of("fried egg")).answer


def test_feedback_calibrates_and_stays(tmp_path, mini):
    draw(tmp_path / "p", 60)
    build(tmp_path / "p", tmp_path / "i", mini)
    index, query = Index.open(tmp_path / "i", mini), Query.of("a red apple")
    first = index.search(query, k=1).results[0]
    for _ in range(3):
        index.feedback(query, first.id, right=True)
    liked = index.search(query, k=1).results[0]
    assert liked.score > first.score + 0.02
    assert liked.similarity == first.similarity
    again = Index.open(tmp_path / "i", mini)
    assert again.search(query, k=1).results == (liked,)
    for _ in range(8):
        again.feedback(query, first.id, right=False)
    assert again.search(query, k=1).results[0].score < liked.score
    assert again.search(Query(like=((first.id, 1.0),)), k=1) == index.search(Query(like=((first.id, 1.0),)), k=1), "pictures have their own"
    assert index.refresh() is False
    assert index.search(query, k=1) == again.search(query, k=1), "taken over from another process"


def test_a_click_on_several_parts_blames_one():
    x, weight, score = np.arange(6.0).reshape(2, 3), np.array([1.0, -0.5]), np.array([0.9, 0.6])
    right = feedback.marks(["words", "pictures"], x, score, weight, [0.0, -1.0], True)
    assert right == [Mark("words", (0.0, 1.0, 2.0), 0.0, True), Mark("pictures", (3.0, 4.0, 5.0), -1.0, False)]
    assert feedback.marks(["words", "pictures"], x, score, weight, [0.0, -1.0], False) == [Mark("pictures", (3.0, 4.0, 5.0), -1.0, True)]


def test_a_cut_line_of_feedback_is_left_out(tmp_path):
    mark = Mark("words", (1.0, 2.0, 0.5), -0.5, True)
    feedback.add(tmp_path / "f", [mark], "0" * 16)
    with (tmp_path / "f").open("ab") as file:
        file.write(b'{"kind": "words", "feat')
    assert feedback.read(tmp_path / "f") == [mark]
    for bad in ('{"kind": "words", "features": [1, 2], "shift": 0, "right": true}', "[]", '{"kind": "x"}'):
        assert feedback.parsed(bad) is None


def test_the_bank_names_no_held_out_concept(known):
    held_out = {concept.name for concept in pictograms.concepts() if concept.unseen}
    assert not held_out & set(names())
    assert len(known.names_MD) == len(names())
