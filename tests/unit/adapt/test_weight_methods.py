"""Methods that train weights: the loss falls, the parent stays, what comes back is a model like it; each equals its formula."""

from __future__ import annotations

import inspect
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from towers_world import OPEN_CLIP, paintings, rows, tiny, tiny_work

from diptych.adapt.adapters import clip_deepfake_ln as ln
from diptych.adapt.adapters import wise_ft as wise
from diptych.adapt.attach import copy_of, linears, lora, singular_values
from diptych.adapt.parts.supervised import Words, against_words, classes_of, descend, image_rows
from diptych.adapt.parts.work import Tuned, Work
from diptych.core import registry
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.engine.fewshot import fitted, logits_of, make
from diptych.towers.dual import DualEncoder
from diptych.towers.formats.load import load, save

IDS = ("lora", "clip-svd", "full-ft", "wise-ft", "lp-ft", "clip-deepfake-ln")
HEADS = ("lp-ft", "clip-deepfake-ln")
QUICK: dict[str, dict[str, Any]] = {
    "lora": {"steps": 24, "batch": 8, "lr": 2e-2, "alpha": 4.0},
    "clip-svd": {"steps": 24, "batch": 8, "lr": 5e-2},
    "full-ft": {"steps": 24, "batch": 8, "lr": 3e-3},
    "wise-ft": {"steps": 24, "batch": 8, "lr": 3e-3},
    "lp-ft": {"steps": 24, "batch": 8, "lr": 3e-3},
    "clip-deepfake-ln": {"steps": 24, "batch": 8, "lr": 2e-2, "uniformity": 0.1},
}
REFERENCE = Path(__file__).resolve().parents[2] / "reference"


def reference(name: str) -> dict[str, Any]:
    return runpy.run_path(str(REFERENCE / f"{name}.py"))


def trained(identity: str, work: Work, **options: Any) -> Tuned:
    return registry.find(identity, "adapt").function(work, **{**QUICK[identity], **options})


def state(model: DualEncoder) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def right(made: Tuned, work: Work) -> float:
    """Share of new paintings that are named rightly."""
    image_NCHW, label_N = paintings(20, len(work.shots.classes), seed=9, side=work.model.config.preprocess.size[0])
    rows_ND = made.model.encode_image(image_NCHW)
    if made.model.head is not None:
        return float((made.model.head(rows_ND).argmax(1) == label_N).float().mean())
    chances = made.model.classifier(work.shots.classes, work.shots.templates).probabilities(rows_ND)
    return float((chances.argmax(1) == label_N).float().mean())


@pytest.mark.parametrize("identity", IDS)
def test_training_lowers_the_loss_names_more_and_leaves_the_parent_bit_for_bit(identity: str):
    parent = tiny()
    before = state(parent)
    work = tiny_work(parent, count=8)
    given = work.shots.image_SD.clone(), work.shots.text_KD.clone()
    made = trained(identity, work)
    assert made.losses[-1] < made.losses[0]
    assert right(made, work) > max(right(Tuned(parent, 0), work), 0.5)
    assert all(torch.equal(value, before[name]) for name, value in parent.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(given, (work.shots.image_SD, work.shots.text_KD), strict=True))
    assert all(parameter.grad is None for parameter in [*parent.parameters(), *made.model.parameters()])
    assert made.numbers > 0


@pytest.mark.parametrize("identity", IDS)
@pytest.mark.parametrize("kind", ["siglip", "bert", "shared"])
def test_every_tower_gives_a_model_like_its_parent_that_saves_and_loads(identity: str, kind: str, tmp_path: Path):
    parent = tiny(kind)
    made = trained(identity, tiny_work(parent, count=2), steps=2, batch=8).model
    assert (made.head is not None) == (identity in HEADS)
    assert made.with_head(None).config == parent.config
    assert list(made.with_head(None).state_dict()) == list(parent.state_dict())
    assert not torch.equal(rows(made), rows(parent))
    save(made, tmp_path / "model")
    again = load(tmp_path / "model")
    torch.testing.assert_close(rows(again), rows(made), atol=1e-6, rtol=0)
    if made.head is not None:
        assert again.head is not None
        assert torch.equal(again.head.weight, made.head.weight)


@pytest.mark.parametrize("identity", [identity for identity in IDS if identity not in HEADS])
def test_an_imported_model_is_adapted_and_goes_back_to_its_format(identity: str, tmp_path: Path):
    parent = load(OPEN_CLIP / "plain")
    pixels = torch.randint(0, 256, (4, 3, *parent.config.preprocess.size), generator=generator(0, "p"), dtype=torch.uint8)
    small = tiny_work(tiny(), count=1)
    text_KD = F.normalize(torch.randn(4, parent.embed_dim, generator=generator(0, "t")), dim=1)
    shots = replace(small.shots, image_SD=parent.encode_image(pixels), text_KD=text_KD)
    pictures = replace(small.pictures, read=lambda index: pixels[index])
    work = Work(parent, shots, pictures, small.free)
    options = {"share": 0.5} if identity == "wise-ft" else {}
    made = trained(identity, work, towers="image", steps=3, **options).model
    save(made, tmp_path / "out", format="open_clip")
    torch.testing.assert_close(rows(load(tmp_path / "out")), rows(made), atol=1e-6, rtol=0)
    assert not torch.equal(rows(made), rows(parent))
    if parent.tokenizer is None:
        with pytest.raises(UsageError, match="no tokenizer"):
            trained(identity, work, towers="both", steps=3, **options)


@pytest.mark.parametrize("identity", IDS)
@pytest.mark.parametrize("case", ["one picture a class", "a class without pictures", "one class has nearly all", "the same picture"])
def test_few_and_uneven_pictures_give_finite_answers(identity: str, case: str):
    index = {
        "one picture a class": [0, 4, 8, 12],
        "a class without pictures": list(range(12)),
        "one class has nearly all": [0, 1, 2, 3, 4, 8, 12],
        "the same picture": [0, 0, 0, 4],
    }[case]
    parent = tiny()
    work = tiny_work(parent, take=torch.tensor(index))
    made = trained(identity, work, steps=2, batch=3)  # the last batch may hold one picture
    assert bool(rows(made.model).isfinite().all())
    assert bool(torch.tensor(made.losses).isfinite().all())
    assert bool(logits_of(made, work, torch.arange(len(index))).isfinite().all())


@pytest.mark.parametrize("identity", IDS)
def test_the_same_draw_gives_the_same_model(identity: str):
    made = [trained(identity, tiny_work(tiny(), count=2), steps=4).model for _ in range(2)]
    assert torch.equal(rows(made[0]), rows(made[1]))


@pytest.mark.parametrize("identity", IDS)
def test_options_are_the_keywords_and_the_engine_finds_what_it_needs(identity: str):
    entry = registry.find(identity, "adapt")
    keywords = {name: p.default for name, p in inspect.signature(entry.function).parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert entry.load().Options().model_dump() == keywords
    work = tiny_work(tiny(), count=2)
    with pytest.raises(UsageError, match="changes a tower"):
        make(entry, work.shots, {})
    made, choices, _ = fitted(identity, work, {**QUICK[identity], "steps": 2})
    assert isinstance(made, Tuned)
    assert choices[0].method == identity


def test_the_loss_is_the_loop_for_either_tower_and_both():
    parent = tiny()
    work, index = tiny_work(parent), torch.tensor([0, 5, 6, 15])
    other = tiny(seed=3)
    image = other.image_features(work.pictures(index)).double().tolist()
    words = Words.of(other, work.shots.classes, ("{}",))
    work = replace(work, shots=replace(work.shots, templates=("{}",)))
    text = words.rows(other, torch.arange(4), generator(0, "t")).double().tolist()
    torch.testing.assert_close(torch.tensor(text).float(), other.encode_text(list(work.shots.classes)), atol=1e-5, rtol=0)
    own = work.shots.image_SD[index].double().tolist(), work.shots.text_KD.double().tolist()
    for towers, rows_of in (("image",), (image, own[1])), (("text",), (own[0], text)), (("image", "text"), (image, text)):
        ours = against_words(work, other, towers, crops=False)(index)
        twin = reference("lora")["loss"](*rows_of, [0, 1, 1, 3], work.shots.scale)
        assert float(ours.detach()) == pytest.approx(twin, abs=1e-5)


def test_lora_and_singular_values_give_the_loops_matrices():
    draw = generator(0, "matrices")
    for change, name in ((lora, "lora"), (singular_values, "clip_svd")):
        model = tiny()
        layer = linears(model, ("text",), ("mlp.up",))["text.blocks.0.mlp.up"]  # 32 rows, 16 columns
        weight = layer.weight.detach().double().tolist()
        attached = lora(model, {"up": layer}, draw, rank=3, alpha=2.0) if change is lora else singular_values(model, {"up": layer})
        with torch.no_grad():
            for parameter in attached.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw))
        numbers = {key: value.detach().double()[0].tolist() for key, value in attached.changes[0].named_parameters()}
        twin = reference(name)["matrix"](weight, **numbers, **({"alpha": 2.0} if change is lora else {}))
        torch.testing.assert_close(layer.weight.detach().double(), torch.tensor(twin).double(), atol=1e-5, rtol=1e-5)


def test_lora_changes_attention_by_low_rank_and_nothing_else():
    parent = tiny()
    made = trained("lora", tiny_work(parent, count=2), rank=2, steps=4).model
    for name, value in made.state_dict().items():
        change = (value - parent.state_dict()[name]).double()
        if name.endswith("qkv.weight"):
            ranks = [int(torch.linalg.matrix_rank(part, atol=1e-6)) for part in change.chunk(3)]
            assert 1 <= max(ranks) <= 2
        else:
            assert not bool(change.any()), name


def test_clip_svd_keeps_the_directions_and_changes_only_their_weights():
    parent = tiny()
    tuned = trained("clip-svd", tiny_work(parent, count=2), steps=4)
    assert tuned.numbers == 2 * 2 * (3 + 1 + 2) * 16
    before, moved = parent.state_dict(), 0
    for name, value in tuned.model.state_dict().items():
        if not name.endswith(("qkv.weight", "out.weight", "up.weight", "down.weight")):
            assert torch.equal(value, before[name]), name
            continue
        for old, new in zip(
            before[name].double().chunk(3 if "qkv" in name else 1), value.double().chunk(3 if "qkv" in name else 1), strict=True
        ):
            left, values, right_ = torch.linalg.svd(old, full_matrices=False)
            core = left.T @ new @ right_.T
            assert float((core - core.diag().diag()).abs().max()) < 1e-5
            moved += int(not torch.allclose(core.diag(), values, atol=1e-4))
    assert moved > 12


def test_only_what_is_asked_for_is_trained():
    parent = tiny()
    before = state(parent)
    image = trained("full-ft", tiny_work(parent, count=2), towers="image", steps=2).model.state_dict()
    text = trained("full-ft", tiny_work(parent, count=2), towers="text", steps=2).model.state_dict()
    both = trained("full-ft", tiny_work(parent, count=2), steps=2).model.state_dict()
    norms = trained("clip-deepfake-ln", tiny_work(parent, count=2), steps=2).model.with_head(None).state_dict()
    for name, value in before.items():
        assert torch.equal(text[name], value) == (not name.startswith("text")), name
        assert torch.equal(image[name], value) == (not name.startswith("image")), name
        assert torch.equal(both[name], value) == (name == "log_scale"), name
        assert torch.equal(norms[name], value) == (not (name.startswith("image.") and "norm" in name)), name


def test_a_step_is_adamws_and_steps_are_whole_passes():
    parent = tiny()
    work, model = tiny_work(parent, count=2), copy_of(parent)
    weight = torch.nn.Parameter(torch.tensor(2.0))
    seen: list[int] = []

    def loss_of(index_B: torch.Tensor) -> torch.Tensor:
        seen.append(len(index_B))
        return 0.5 * weight**2 * len(index_B)

    losses = descend(work, [weight], loss_of, steps=3, lr=0.1, batch=5, decay=0.2)
    assert seen == [5, 3, 5, 3]  # eight pictures in batches of five, and three steps need two passes
    assert len(losses) == 2
    ours, rates = 2.0, reference("full_ft")["rates"](0.1, 4)
    for step in range(1, 5):  # the gradient depends on the number itself, so each step is asked again from the start
        gradients: list[float] = []
        ours = 2.0
        for count in seen[:step]:
            gradients.append(ours * count)
            ours = reference("full_ft")["adamw"](2.0, gradients, rates=rates[: len(gradients)], decay=0.2)
    assert float(weight.detach()) == pytest.approx(ours, abs=1e-6)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_crops_are_drawn_anew_and_left_out_where_asked():
    work = tiny_work(tiny(), count=2)
    index = torch.arange(4)
    plain = image_rows(work, work.model, index, crops=False)
    torch.testing.assert_close(plain, work.shots.image_SD[index], atol=1e-6, rtol=0)
    first, second = (image_rows(work, work.model, index) for _ in range(2))
    assert not torch.equal(first, second)
    assert not torch.equal(first, plain)


def test_with_many_classes_a_step_compares_those_of_the_batch_and_some_others():
    draw, label = generator(0, "classes"), torch.tensor([7, 90, 7, 3])
    assert classes_of(label, 100, 100, draw).tolist() == list(range(100))
    chosen = [classes_of(label, 100, 10, draw).tolist() for _ in range(50)]
    assert all(len(some) == len(set(some)) == 10 and some == sorted(some) and {3, 7, 90} <= set(some) for some in chosen)
    assert len({one for some in chosen for one in some}) > 90
    assert classes_of(label, 100, 2, draw).tolist() == [3, 7, 90]
    parent = tiny()
    work, index = tiny_work(parent), torch.tensor([0, 15])
    loss = against_words(work, parent, ("image",), crops=False, most=2)(index)
    text = work.shots.text_KD[[0, 3]].double().tolist()
    twin = reference("lora")["loss"](work.shots.image_SD[index].double().tolist(), text, [0, 1], work.shots.scale)
    assert float(loss.detach()) == pytest.approx(twin, abs=1e-4)


def test_wise_ft_lies_between_parent_and_full_fine_tuning():
    parent = tiny()
    child = trained("full-ft", tiny_work(parent, count=4)).model
    made = {share: trained("wise-ft", tiny_work(parent, count=4), share=share).model for share in (0.0, 0.3, 1.0)}
    assert torch.equal(rows(made[0.0]), rows(parent))
    assert torch.equal(rows(made[1.0]), rows(child))
    for name, value in made[0.3].state_dict().items():
        ends = (model.state_dict()[name].double().flatten().tolist() for model in (parent, child))
        twin = reference("wise_ft")["between"](*ends, 0.3)
        torch.testing.assert_close(value.double().flatten(), torch.tensor(twin).double(), atol=1e-6, rtol=1e-6)


def test_the_share_is_the_smallest_of_the_best_and_is_chosen_on_pictures_that_were_not_fitted_on():
    for hits in ([1, 3, 3, 2, 3, 1, 0, 0, 0, 0], [0] * 10, list(range(10)), [5, 4, 5, 4, 5, 4, 5, 4, 5, 5]):
        assert wise.chosen([float(hit) for hit in hits]) == reference("wise_ft")["chosen"](wise.SHARES, hits)
    label = torch.tensor([0] * 8 + [1] * 4 + [2] * 2 + [3])
    fit, ask = wise.held_out(label, generator(0, "held"))
    assert sorted([*fit.tolist(), *ask.tolist()]) == list(range(15))
    assert torch.bincount(label[ask], minlength=4).tolist() == [2, 1, 1, 0]
    assert torch.equal(wise.held_out(label, generator(0, "held"))[1], ask)
    assert not len(wise.held_out(torch.arange(4), generator(0, "held"))[1])
    work = tiny_work(tiny(), count=3)
    found = wise.hits(work, work.model, torch.arange(12))
    assert torch.equal(found.bool(), work.shots.zero_shot()(work.shots.image_SD).argmax(1) == work.shots.label_S)


def test_with_one_picture_a_class_wise_ft_goes_half_of_the_way():
    work = [tiny_work(tiny(), count=1) for _ in range(2)]
    assert torch.equal(rows(trained("wise-ft", work[0]).model), rows(trained("wise-ft", work[1], share=0.5).model))


def test_lp_ft_starts_at_the_probe_or_at_the_words():
    parent = tiny()
    work = tiny_work(parent, count=4)
    probe = registry.find("linear-probe", "adapt").function(work.shots, ridge=1e-3)
    made = trained("lp-ft", work, ridge=1e-3, steps=1, lr=1e-12, decay=0.0)
    assert made.model.head is not None
    torch.testing.assert_close(made.model.head.weight, probe.weight, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(made.model.head.bias, probe.bias, atol=1e-4, rtol=1e-4)
    twin = reference("lp_ft")["loss"](
        work.shots.image_SD.double().tolist(), probe.weight.double().tolist(), probe.bias.tolist(), work.shots.label_S.tolist()
    )
    words = reference("lp_ft")["loss"](
        work.shots.image_SD.double().tolist(), work.shots.zero_shot().weight.double().tolist(), [0.0] * 4, work.shots.label_S.tolist()
    )
    assert twin < words
    started = trained("lp-ft", work, probe=False, steps=1, lr=1e-12, decay=0.0).model.head
    assert started is not None
    torch.testing.assert_close(started.weight, work.shots.zero_shot().weight, atol=1e-4, rtol=1e-4)
    assert (
        trained("lp-ft", tiny_work(parent, count=8), steps=1).losses[0]
        < trained("lp-ft", tiny_work(parent, count=8), steps=1, probe=False).losses[0]
    )


def test_terms_on_the_sphere_are_the_loops():
    twin, draw = reference("clip_deepfake_ln"), generator(0, "sphere")
    for label in ([0, 1, 0, 1, 1, 0], [0, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5], [2] * 6):
        row_BD, label_B = F.normalize(torch.randn(6, 5, generator=draw), dim=1), torch.tensor(label)
        plain = row_BD.double().tolist()
        assert float(ln.aligned(row_BD, label_B)) == pytest.approx(twin["alignment"](plain, label), abs=1e-5)
        assert float(ln.uniform(row_BD)) == pytest.approx(twin["uniformity"](plain), abs=1e-5)
        share_B = torch.rand(3, generator=draw)
        ours = ln.slerped(row_BD[:3], row_BD[3:], share_B)
        for i in range(3):
            torch.testing.assert_close(
                ours[i].double(), torch.tensor(twin["slerp"](plain[i], plain[i + 3], float(share_B[i]))).double(), atol=1e-5, rtol=0
            )
    one = row_BD[:1]
    assert float(ln.aligned(one, label_B[:1])) == float(ln.uniform(one)) == 0.0
    torch.testing.assert_close(ln.slerped(one, one, torch.tensor([0.4])), one)


def test_partners_lie_between_rows_of_one_class():
    draw = generator(0, "partners")
    row_BD, label_B = F.normalize(torch.randn(40, 4, generator=draw), dim=1), torch.arange(40) % 3
    made_BD = ln.between(row_BD, label_B, draw)
    torch.testing.assert_close(made_BD.norm(dim=1), torch.ones(40))
    away_BB = (made_BD @ row_BD.T).clamp(-1, 1).acos()
    apart_BB = (row_BD @ row_BD.T).clamp(-1, 1).acos()
    for b in range(40):  # on the arc from its row to one of its class: the two ways add up
        rest = (away_BB[b, b] + away_BB[b] - apart_BB[b]).abs()
        assert bool((rest[label_B == label_B[b]] < 2e-3).any())
    assert float((made_BD - row_BD).norm(dim=1).max()) > 0.2


def test_pictures_and_texts_are_read_as_the_model_reads_them():
    model = tiny("bert")
    words = Words.of(model, ("red", "a long name"), ("{}", "a {}"))
    assert words.ids_PKL.shape[:2] == (2, 2)
    both = [model.encode_text(["red", "a long name"]), model.encode_text(["a red", "a a long name"])]
    with torch.no_grad():
        made = [words.rows(model, torch.arange(2), generator(seed, "t")) for seed in range(20)]
    which = [min(range(2), key=lambda p: float((one - both[p]).abs().max())) for one in made]
    assert set(which) == {0, 1}
    for one, p in zip(made, which, strict=True):
        torch.testing.assert_close(one, both[p], atol=1e-6, rtol=0)
