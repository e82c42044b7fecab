"""Heads against independent code: scikit-learn's discriminant analysis and logistic regression, gradients at the optimum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from diptych.adapt.adapters.linear_probe import linear_probe
from diptych.adapt.parts.shots import Shots
from diptych.adapt.training_free.gda_clip import gda_clip, precision
from diptych.adapt.training_free.tip_adapter import tip_adapter
from diptych.core.rng import generator


def shots(per_class=10, classes=5, width=6):
    draw = generator(1, "closed forms")
    label = torch.arange(classes).repeat_interleave(per_class)
    centre = torch.randn(classes, width, generator=draw)
    image = F.normalize(centre[label] + torch.randn(len(label), width, generator=draw), dim=1)
    text = F.normalize(centre + torch.randn(classes, width, generator=draw), dim=1)
    return Shots(image, label, text, tuple("abcde"), 20.0, generator(1, "draw"))


def test_gda_is_linear_discriminant_analysis_with_the_same_covariance():
    """scikit-learn centres by class and weighs the classes' covariances by their priors, equal here."""
    given = shots()
    centred = given.image_SD.double() - torch.stack([given.image_SD[given.label_S == k].double().mean(0) for k in range(5)])[given.label_S]
    covariance = np.linalg.inv(precision(centred).numpy())

    class Same(BaseEstimator):
        def fit(self, x, y=None):
            self.covariance_ = covariance
            return self

    peer = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=Same(), priors=np.full(5, 0.2))
    peer.fit(given.image_SD.double().numpy(), given.label_S.numpy())
    head = gda_clip(given, alpha=1.0)
    ours = head(given.image_SD).double() - given.scale * given.image_SD.double() @ given.text_KD.double().T
    theirs = torch.from_numpy(peer.decision_function(given.image_SD.double().numpy()))
    assert torch.allclose(ours, theirs, atol=1e-4)
    exact = given.image_SD.double() @ torch.from_numpy(peer.coef_).T + torch.from_numpy(peer.intercept_)
    assert torch.allclose(exact, theirs, atol=1e-9)


def test_precision_is_the_inverse_of_a_ridged_scatter():
    rows = torch.randn(40, 6, generator=generator(0, "rows"), dtype=torch.float64)
    cov = rows.T @ rows / 39
    wanted = 6 * torch.linalg.inv(39 * cov + cov.trace() * torch.eye(6, dtype=torch.float64))
    assert torch.allclose(precision(rows), wanted, atol=1e-12)
    assert torch.equal(precision(torch.zeros(3, 6, dtype=torch.float64)), torch.eye(6, dtype=torch.float64))


@pytest.mark.parametrize("ridge", [1e-2, 1e-3])
def test_from_zeros_the_probe_is_logistic_regression(ridge):
    given = shots()
    count = len(given.label_S)
    head = linear_probe(given, ridge=ridge, from_words=False, steps=500)
    peer = LogisticRegression(C=1 / (ridge * count), tol=1e-10, max_iter=5000)
    peer.fit(given.image_SD.double().numpy(), given.label_S.numpy())
    ours, theirs = head(given.image_SD).softmax(1).double(), torch.from_numpy(peer.predict_proba(given.image_SD.double().numpy()))
    assert torch.allclose(ours, theirs, atol=2e-4)


def test_a_strong_pull_stays_at_the_words_and_a_weak_one_leaves_them():
    given = shots()
    near, far = linear_probe(given, ridge=1e6), linear_probe(given, ridge=1e-6)
    assert torch.allclose(near.weight, given.scale * given.text_KD, atol=1e-4)
    assert float((far.weight - given.scale * given.text_KD).norm()) > 1


def test_the_probe_is_at_a_minimum():
    given = shots()
    head = linear_probe(given, ridge=1e-3)
    weight, bias = head.weight.double().requires_grad_(), head.bias.double().requires_grad_()
    pull = (weight - given.scale * given.text_KD.double()).square().sum()
    loss = F.cross_entropy(given.image_SD.double() @ weight.T + bias, given.label_S) + 1e-3 / 2 * pull
    loss.backward()
    assert float(weight.grad.abs().max()) < 1e-5
    assert float(bias.grad.abs().max()) < 1e-5


def test_tuning_the_keys_lowers_the_loss_on_the_labelled_pictures():
    given = shots()
    plain, tuned = tip_adapter(given, alpha=2.0, beta=3.0), tip_adapter(given, alpha=2.0, beta=3.0, epochs=30, lr=1e-2)
    losses = [float(F.cross_entropy(head(given.image_SD), given.label_S)) for head in (plain, tuned)]
    assert losses[1] < losses[0] - 0.01
    assert torch.equal(plain.get_buffer("key"), given.image_SD)
