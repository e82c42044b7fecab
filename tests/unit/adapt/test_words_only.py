"""Prompt ensembles, classification by description, PerceptionCLIP: against their loops, and what each claims in a world of words."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch
from bag_of_words import encode, seen, shots_of
from pydantic import ValidationError

from diptych.adapt.parts.words import described, read_words, renamed
from diptych.adapt.zero_shot import dclip_description, perceptionclip, prompt_ensemble
from diptych.core.errors import DiptychError, UsageError
from diptych.data import pictograms
from diptych.evaluate.protocols import perceptionclip as protocol

REFERENCE = Path(__file__).resolve().parents[2] / "reference"


def reference(name: str):
    return runpy.run_path(str(REFERENCE / f"{name}.py"))["logits"]


def lists(rows: torch.Tensor) -> list:
    return rows.double().tolist()


def close(ours: torch.Tensor, theirs: list) -> bool:
    return torch.allclose(ours.double(), torch.tensor(theirs, dtype=torch.float64), atol=1e-4)


def test_an_ensemble_is_the_mean_of_the_prompts_rows():
    classes, prompts = ("red apple", "pear", "boat"), ("{}", "a drawing of a {}", "{} and nothing else")
    head = prompt_ensemble.prompt_ensemble(shots_of(classes), templates=prompts)
    rows = seen(["an apple", "a boat", "pear tree"], spread=0.5)
    texts = [[lists(encode([prompt.replace("{}", name)]))[0] for prompt in prompts] for name in classes]
    assert close(head(rows), reference("prompt_ensemble")(texts, 20.0, lists(rows)))
    assert head.config.made_by == "prompt-ensemble, 3 prompts"


def test_the_sets_own_prompts_are_zero_shot():
    shots = shots_of(("cat", "dog"), templates=("a {}", "the {}"))
    own = prompt_ensemble.prompt_ensemble(shots, kind="own")
    assert torch.allclose(own.weight, shots.zero_shot().weight, atol=1e-5)
    every = prompt_ensemble.prompt_ensemble(shots)
    assert every.config.made_by == "prompt-ensemble, 17 prompts (all)"
    assert not torch.allclose(every.weight, own.weight, atol=1e-2)
    with pytest.raises(UsageError, match=r"it has no \{\}"):
        prompt_ensemble.prompt_ensemble(shots, templates=("a photo",))


def test_many_prompts_drown_the_words_that_each_adds():
    """What a prompt adds to the name is noise; of six prompts a sixth of each is left."""
    classes = ("fox", "hen")
    rows = seen(["fox sketch", "hen sketch"] * 20, spread=1.0, seed=1)
    label = torch.tensor([0, 1] * 20)
    shots = shots_of(classes)
    one = prompt_ensemble.prompt_ensemble(shots, templates=("old {}",))
    many = prompt_ensemble.prompt_ensemble(shots, templates=("old {}", "faded {}", "grey {}", "bent {}", "torn {}", "lost {}"))
    lead = [(head(rows)[torch.arange(40), label] - head(rows)[torch.arange(40), 1 - label]).mean() for head in (one, many)]
    assert float(lead[1]) > 1.2 * float(lead[0])


def test_description_is_the_mean_similarity(tmp_path):
    file = tmp_path / "told.json"
    file.write_text(json.dumps({"Hen": ["a beak", "feathers"], "tiger": ["stripes"], "boat": []}))
    head = dclip_description.dclip_description(shots_of(("hen", "tiger", "boat")), descriptions=str(file))
    rows = seen(["stripes", "a hen with feathers"], spread=0.3)
    texts = [["hen, which has a beak", "hen, which has feathers"], ["tiger, which has stripes"], ["boat"]]
    assert close(head(rows), reference("dclip_description")([lists(encode(some)) for some in texts], 20.0, lists(rows)))
    short = dclip_description.dclip_description(shots_of(("hen", "tiger", "boat")), descriptions=str(file), form="{descriptor}", most=1)
    assert torch.allclose(short.weight, 20 * encode(["a beak", "stripes", "boat"]), atol=1e-4)
    assert short.config.made_by.startswith("dclip-description, 2 descriptions of a file")


def test_names_never_learned_are_known_by_their_descriptions(tmp_path):
    """The model's words for the classes say nothing about their pictures; the words of the descriptors do."""
    file = tmp_path / "told.tsv"
    file.write_text("okapi\tstriped legs\nokapi\ta long tongue\naxolotl\tfrilly gills\naxolotl\ta pale skin\ntapir\ta short trunk\n")
    classes = ("okapi", "axolotl", "tapir")
    rows = seen(["striped legs and tongue", "pale with frilly gills", "short trunk"] * 10, spread=0.7, seed=2)
    label = torch.arange(3).repeat(10)
    shots = shots_of(classes)
    head = dclip_description.dclip_description(shots, descriptions=str(file))
    right = [float((made(rows).argmax(1) == label).double().mean()) for made in (shots.zero_shot(), head)]
    assert right[0] < 0.8
    assert right[1] > 0.95


def test_description_tells_what_it_lacks():
    shots = shots_of(("qxz", "zxq"))
    with pytest.raises(UsageError, match="nothing describes any of these classes"):
        dclip_description.dclip_description(shots)
    with pytest.raises(UsageError, match=r"it has no \{descriptor\}"):
        dclip_description.dclip_description(shots, form="{name}")
    with pytest.raises(UsageError, match="no text tower is at hand"):
        dclip_description.dclip_description(type(shots)(shots.image_SD, shots.label_S, shots.text_KD, ("cat", "dog"), 1.0, shots.draw))


def test_the_corpus_describes_and_renames_what_it_knows():
    concept = next(c for c in pictograms.concepts() if c.name == "two-hump camel")
    (camel, goose, nothing), (names,) = described(("Two-hump_Camel", "snow goose", "qxz")), renamed(("two-hump camel",))
    assert camel
    assert set(camel) <= set(concept.keywords["en"])
    assert not any("camel" in one.split() or "two-hump" in one.split() for one in camel)
    assert goose == tuple(w for w in described(("goose",), 99)[0] if "snow" not in w.split())[:6]
    assert nothing == ()
    assert names == ("bactrian camel",)
    assert len(described(("dog",), 2)[0]) == 2


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.json", "{", "it is no JSON"),
        ("a.json", '["cat"]', "no object of lists"),
        ("a.json", '{"cat": ["fur", 3]}', "no object of lists"),
        ("a.json", '{"cat": ["fur"]}', "1 of 2 classes, the first is 'dog'"),
        ("a.tsv", "cat\tfur\ndog barks\n", "line 2: it is not class<TAB>words"),
    ],
)
def test_a_file_of_words_that_does_not_fit_is_told(tmp_path, name, text, why):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=why):
        read_words(tmp_path / name, ("cat", "dog"))


def test_a_file_of_words_is_read_in_the_order_of_the_classes(tmp_path):
    (tmp_path / "a.tsv").write_text("Dog\tbarks \n\ncat\tfur\ndog\twags\nowl\tnight\n")
    assert read_words(tmp_path / "a.tsv", ("cat", "dog")) == [("fur",), ("barks", "wags")]
    with pytest.raises(DiptychError, match="it cannot be read"):
        read_words(tmp_path / "none.json", ("cat",))
    (tmp_path / "b.json").write_bytes(b'{"cat": ["\xff"]}')
    with pytest.raises(DiptychError, match="it cannot be read"):
        read_words(tmp_path / "b.json", ("cat",))


@pytest.mark.parametrize("infer", ["with classes", "alone"])
@pytest.mark.parametrize("tau", [1.0, 5.0])
def test_perceptionclip_is_its_algorithm(infer, tau):
    shots = shots_of(("cat", "ship", "bee"), templates=("{}", "a drawing of {}"))
    rule = perceptionclip.perceptionclip(shots, contexts=(("green", "blue"), ("dark", "bright")), infer=infer, tau=tau)
    rows = seen(["cat green", "ship", "a dark bee"], spread=0.5)
    names = ["green, dark", "green, bright", "blue, dark", "blue, bright"]
    filled = [[f"{y} on a {z} background" for z in names] for y in shots.classes]
    both = [[_mean(text) for text in some] for some in filled]
    pure = [_mean(f"a {z} background") for z in names]
    answer = rule.answer(None, shots.classes).logits(rows)  # type: ignore[arg-type]
    assert close(answer, reference("perceptionclip")(both, pure, 20.0, lists(rows), infer=infer, tau=tau))
    assert torch.allclose(answer.exp().sum(1), torch.ones(3), atol=1e-5)


def _mean(text: str) -> list[float]:
    return lists(torch.nn.functional.normalize(encode([text, f"a drawing of {text}"]).double().mean(0), dim=0))


def test_perceptionclip_agrees_with_the_protocol_of_its_name():
    shots = shots_of(("cat", "ship", "bee"))
    rule = perceptionclip.perceptionclip(shots, contexts=(("green", "blue"),), tau=3.0)
    rows = seen(["cat green", "ship", "bee blue"], spread=0.5)
    texts = [protocol.CONTEXT.format(y=y, z=z) for y in shots.classes for z in ("green", "blue")]
    logit_NYZ = 20 * (rows @ encode(texts).T).view(3, 3, 2)
    told = protocol.conditioned(logit_NYZ, protocol.inferred(logit_NYZ, 3.0))
    assert torch.allclose(rule.answer(None, shots.classes).logits(rows).double().exp(), told, atol=1e-5)  # type: ignore[arg-type]


def test_perceptionclip_looks_past_a_background_that_a_name_leans_on():
    """To the model "cow" means grass as much as cow, "boat" water; on the other ground plain names are misled."""
    means = {"cow": "cow grass grass", "boat": "boat water water"}

    def told(texts):
        return encode([" ".join(means.get(one, one) if "background" not in text else one for one in text.split()) for text in texts])

    shots = shots_of(("cow", "boat"))
    shots = type(shots)(shots.image_SD, shots.label_S, told(shots.classes), shots.classes, 20.0, shots.draw, encode=told)
    rows = seen(["cow water water background", "boat grass grass background"] * 10, spread=0.3)
    label = torch.arange(2).repeat(10)
    rule = perceptionclip.perceptionclip(shots, contexts=(("grass", "water"),))
    plain = float((shots.zero_shot()(rows).argmax(1) == label).double().mean())
    told_right = float((rule.answer(None, shots.classes).logits(rows).argmax(1) == label).double().mean())  # type: ignore[arg-type]
    assert plain == 0
    assert told_right == 1


def test_perceptionclip_tells_what_does_not_fit():
    shots = shots_of(("cat", "dog"))
    for options in ({"form": "{y}"}, {"pure": "here"}, {"contexts": (("a", "a"),)}, {"contexts": (("a",), ())}):
        with pytest.raises(UsageError):
            perceptionclip.perceptionclip(shots, **options)
    with pytest.raises(ValidationError):
        perceptionclip.Options(tau=0)
