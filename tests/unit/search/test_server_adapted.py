"""An adapted model behind the server and on the command line: its own classes answer, its own way."""

from __future__ import annotations

import json

import httpx
import pytest
import torch
from serving_fakes import data_url, png, running

import diptych
from diptych.cli.app import run as main
from diptych.search.serving.limits import Limits
from diptych.towers.head import Head, HeadConfig
from diptych.towers.rule import Rule, RuleConfig

NAMES = ("a fox", "a bus", "a plum")
RED = png((200, 30, 30))


@pytest.fixture(scope="module")
def mini():
    return diptych.load("mini")


def headed(model, favourite: int):
    """A model whose head always says the same."""
    bias = torch.zeros(3).index_fill_(0, torch.tensor([favourite]), 5.0)
    return model.with_head(Head.of(HeadConfig(classes=NAMES, width=model.embed_dim), weight=torch.zeros(3, model.embed_dim), bias=bias))


def asked(model, **form):
    with running(model, None, Limits()) as there, httpx.Client(base_url=there.url, timeout=60) as client:
        answer = client.post("/classify", json={"images": [data_url(RED)], **form})
    return answer.status_code, answer.json()


def test_a_head_answers_for_its_classes_with_and_without_labels(mini):
    model = headed(mini, 2)
    for form in ({}, {"labels": list(NAMES)}):
        status, answer = asked(model, **form)
        assert status == 200
        assert answer["labels"] == list(NAMES)
        assert answer["results"][0]["label"] == "a plum"
        chance = torch.tensor([0.0, 0.0, 5.0]).softmax(0)[2]
        assert answer["results"][0]["probability"] == pytest.approx(float(chance), abs=1e-5)


def test_other_labels_and_templates_are_answered_by_the_words(mini):
    wanted = mini.classifier(["red", "blue"]).predict([RED])[1][0]
    status, answer = asked(headed(mini, 2), labels=["red", "blue"], top=2)
    assert status == 200
    found = {item["label"]: item["probability"] for item in answer["results"][0]["top"]}
    assert [found["red"], found["blue"]] == pytest.approx(wanted.tolist(), abs=1e-4)


def test_no_labels_and_no_head_is_said(mini):
    status, answer = asked(mini)
    assert status == 422
    assert "not adapted" in answer["error"]["why"]


@pytest.mark.parametrize("reads", ["rows", "pixels"])
def test_a_rule_answers_by_what_it_reads(mini, reads, monkeypatch):
    from diptych.adapt.zero_shot import perceptionclip
    from diptych.towers.rule import Answer

    shapes = []

    def answer(model, labels, numbers):
        def logits(given):
            shapes.append((given.dtype, tuple(given.shape[1:])))
            return torch.tensor([[0.0, 3.0, 0.0]]).expand(len(given), -1)

        return Answer(logits)

    monkeypatch.setattr(perceptionclip, "answer", answer)
    rule = Rule.of(RuleConfig(method="perceptionclip", classes=NAMES, reads=reads))
    status, found = asked(mini.with_rule(rule))
    assert status == 200
    assert found["results"][0]["label"] == "a bus"
    assert shapes[0] == ((torch.float32, (mini.embed_dim,)) if reads == "rows" else (torch.uint8, (3, 64, 64)))


def test_classify_without_labels_takes_the_models_own(mini, tmp_path, capsys):
    diptych.save(headed(mini, 1), tmp_path / "model")
    (tmp_path / "red.png").write_bytes(RED)
    assert main(["classify", str(tmp_path / "model"), str(tmp_path / "red.png"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["label"] == "a bus"
    assert main(["classify", "mini", str(tmp_path / "red.png")]) == 2
    assert "give them one way" in capsys.readouterr().err
