"""Settings: written, read back, changed; whatever does not fit is named."""

from __future__ import annotations

import pytest
from toys import run

from diptych.core.errors import UsageError
from diptych.engine.run import Run


def test_yaml_gives_the_run_back(tmp_path):
    one = run("optim.lr=3e-4", "tokens.name=random-mask", "data.augment.flip=0.5", "init.freeze=[text]", "data.micro=4")
    (tmp_path / "run.yaml").write_text(one.to_yaml())
    assert Run.from_yaml(tmp_path / "run.yaml") == one
    assert one.optim.lr == 3e-4
    assert one.data.augment.flip == 0.5


def test_set_takes_the_place_of_the_other_budget_and_start():
    changed = run("budget.seconds=60", "init.from_=mini")
    assert changed.budget.steps is None
    assert changed.budget.seconds == 60
    assert changed.init.preset is None


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("optim.lrr=1", "Did you mean 'lr'"),
        ("optm.lr=1", "Did you mean 'optim'"),
        ("seed.x=1", "no settings of its own"),
        ("objective.name=clap", "Did you mean 'clip'"),
        ("objective.options.label_smooting=0.1", "Did you mean 'label_smoothing'"),
        ("objective.options.label_smoothing=2", "objective.options.label_smoothing"),
        ("data.micro=5", "does not divide"),
        ("data.augment.flop=1", "Did you mean 'flip'"),
        ("optim.lr=-1", "greater than 0"),
        ("optim.lr", "no '='"),
        ("save.patience=2", "needs best_metric"),
    ],
)
def test_what_does_not_fit_is_named(assignment, told):
    with pytest.raises(UsageError) as caught:
        run(assignment)
    assert told in str(caught.value)


def test_a_file_that_is_no_run(tmp_path):
    with pytest.raises(UsageError, match=r"No such file"):
        Run.from_yaml(tmp_path / "none.yaml")
    for text in ("- 1\n", "a: [\n", "init: {preset: tiny}\nbudget: {}\n"):
        (tmp_path / "run.yaml").write_text(text)
        with pytest.raises(UsageError):
            Run.from_yaml(tmp_path / "run.yaml")


@pytest.mark.parametrize(("text", "value"), [("off", "off"), ("auto", "auto")])
def test_words_that_older_yaml_takes_for_truth_values_stay_words(text, value, tmp_path):
    assert run(f"precision={text}").precision == value
    (tmp_path / "run.yaml").write_text(run().to_yaml().replace("precision: 'off'", f"precision: {text}"))
    assert Run.from_yaml(tmp_path / "run.yaml").precision == value


def test_truth_values_are_still_read():
    options = run("objective.name=genhancer", "objective.options={end_to_end: true, first: 0.0}").objective.options
    assert options == {"end_to_end": True, "first": 0.0}
