"""What the engine does for objectives with heads, state, copies of the model and further material."""

from __future__ import annotations

import pytest
import torch
from toys import Toys, run

from diptych.core.errors import UsageError
from diptych.engine.build import build_loader, build_model, build_tokens
from diptych.engine.loop import train
from diptych.engine.objective import Follower, build_material
from diptych.engine.parallel import Ranks
from diptych.engine.step import Stepper, freeze

CPU = Ranks(0, 1, 0, torch.device("cpu"))


class Stop(Exception):
    pass


def stop_at(step: int):
    def at(row) -> None:
        if row["step"] == step:
            raise Stop

    return at


@pytest.mark.parametrize("name", ["byol", "wenlan-brivl", "clip-refine", "protoclip"])
def test_an_interrupted_run_ends_as_the_whole_one(name, tmp_path):
    """Heads, the average copy, the teacher and buffers are what they were: to the bit."""
    config = run(f"objective.name={name}")
    whole = train(config, tmp_path / "whole", dataset=Toys(), progress=False)
    with pytest.raises(Stop):
        train(config, tmp_path / "cut", dataset=Toys(), progress=False, on_event=stop_at(6))
    again = train(config, tmp_path / "cut", dataset=Toys(), progress=False)
    for key, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[key], value), key
    assert [row["loss"] for row in again.history[-4:]] == [row["loss"] for row in whole.history[-4:]]


def test_the_follower_is_the_average():
    model = build_model(run())
    follower = Follower(model)
    first = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    follower.update(0.9)
    for name, p in follower.copy.named_parameters():
        torch.testing.assert_close(p, first[name] + 0.1, msg=name)
        assert not p.requires_grad


@pytest.mark.parametrize("name", ["byol", "slip"])
def test_what_depends_on_the_whole_batch_refuses_a_gradient_cache(name):
    config = run(f"objective.name={name}", "data.micro=4")
    with pytest.raises(UsageError, match=r"data\.micro"):
        Stepper(config, build_model(config), CPU)


@pytest.mark.parametrize("name", ["pyramidclip", "wenlan-brivl", "clip-refine", "structure-clip"])
def test_a_gradient_cache_gives_the_same_gradient(name):
    """Extra views and texts, the average copy and the teacher are cut into parts as pictures and captions are."""
    gradients = []
    for micro in ("null", "4"):
        config = run(f"objective.name={name}", f"data.micro={micro}", "optim.clip_grad=null")
        model = build_model(config)
        with build_loader(config, Toys(), model, CPU) as loader:
            batch = next(loader)
        stepper = Stepper(config, model, CPU)
        torch.manual_seed(0)
        reference = torch.randn(16, model.embed_dim)
        if name == "clip-refine":  # its random points are drawn a part, so the parts are given the same ones here
            plain = stepper.objective.method.rows

            def rows(see, plain=plain, reference=reference, ids=batch.image_BCHW):
                at = [int((ids == picture).flatten(1).all(1).nonzero()[0]) for picture in see.image_BCHW]
                return plain(see) | {"reference": reference[at]}

            stepper.objective.method.rows = rows
        stepper._backward(batch, 0)
        gradients.append({n: p.grad.clone() for n, p in stepper.trained.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for key, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], value, rtol=1e-4, atol=1e-6, msg=key)


def test_pictures_alone_need_no_words(tmp_path):
    class Wordless(Toys):
        def __init__(self) -> None:
            super().__init__()
            self.rows = [type(row)(row.id, row.image) for row in self.rows]

        def captions(self, index: int) -> tuple[str, ...]:
            return ()

    config = run("objective.name=simclr", "budget.steps=2")
    done = train(config, tmp_path, dataset=Wordless(), progress=False)
    assert done.history[-1]["step"] == 2
    model = build_model(config)
    kept = {name: p.clone() for name, p in model.text.named_parameters()}
    assert all(torch.equal(p, kept[name]) for name, p in done.model.text.named_parameters())
    model.tokenizer = None
    with build_loader(config, Wordless(), model, CPU) as loader:
        assert next(loader).captions == ()


def test_views_of_another_number_are_refused():
    with pytest.raises(UsageError, match="takes 2 views, the run has 1"):
        build_material(run("objective.name=simclr", "data.views=[{flip: 0.5}]"))
    assert len(build_material(run("objective.name=simclr", "data.views=[{flip: 0.5}, {}]")).views) == 2


def test_an_unknown_rewriter_or_option_is_told():
    with pytest.raises(UsageError, match="laclip"):
        run("data.rewrite={name: lacip}")
    with pytest.raises(UsageError, match=r"captions\.options"):
        run("data.rewrite={name: laclip, options: {nonsense: 1}}")


def test_freezing_follows_what_an_objective_uses():
    config = run("objective.name=vicreg")
    model = build_model(config)
    freeze(model, config.init.frozen)
    Stepper(config, model, CPU)
    assert not any(p.requires_grad for p in model.text.parameters())
    assert all(p.requires_grad for p in model.image.parameters())


@pytest.mark.parametrize(("name", "tower"), [("random-mask", "demo"), ("tome", "demo"), ("evit", "mini")])
def test_a_token_method_and_a_tower_that_do_not_go_together_are_told_before_the_first_step(name, tower):
    config = run(f"init={{preset: {tower}, text_from: mini}}", f"tokens.name={name}")
    with pytest.raises(UsageError, match=f"token method '?{name}.* with image tower"):
        Stepper(config, build_model(config), CPU, build_tokens(config, CPU.device))


def test_pictures_alone_train_a_tower_that_shares_its_weights():
    config = run("init.preset=ms-clip-tiny", "objective.name=simclr")
    model = build_model(config)
    Stepper(config, model, CPU)
    assert all(p.requires_grad for p in model.image.parameters())
    assert not any(p.requires_grad for p in model.text_projection.parameters())
