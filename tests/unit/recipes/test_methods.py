"""Recipes made of methods' names: what they put into a run, and which names do not go together."""

from __future__ import annotations

import pytest

from diptych.core import registry
from diptych.core.errors import UsageError
from diptych.engine.run import BudgetConfig, InitConfig, Run
from diptych.recipes.methods import KINDS, chosen, known, with_methods

RUN = Run(init=InitConfig(from_="mini"), budget=BudgetConfig(steps=1))


@pytest.mark.parametrize("name", known())
def test_every_method_is_a_recipe(name):
    run = with_methods(RUN, name)
    families = {entry.family for entry in registry.entries() if entry.id == name}
    put = {
        "objective": run.objective.name,
        "tokens": run.tokens.name if run.tokens else None,
        "captions": run.data.rewrite.name if run.data.rewrite else None,
    }
    for kind, of in KINDS.items():
        assert (put[kind] == name) == bool(families & set(of)), kind
    asked = [field for e in registry.entries() if e.id == name for field in e.load().Options.model_fields.values() if field.is_required()]
    if not asked:
        assert Run.from_dict(run.model_dump(mode="json")) == run


def test_methods_of_different_kinds_go_together():
    run = with_methods(RUN, "slip+random-mask+laclip")
    assert (run.objective.name, run.tokens.name, run.data.rewrite.name) == ("slip", "random-mask", "laclip")


def test_one_part_of_a_method_of_two_kinds_can_be_replaced():
    assert chosen("a-clip") == {"objective": "a-clip", "tokens": "a-clip"}
    assert chosen("a-clip+cloob") == chosen("cloob+a-clip") == {"objective": "cloob", "tokens": "a-clip"}


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ("cloob+cloob", "names 'cloob' twice"),
        ("cloob+protoclip", "'cloob' and 'protoclip' do not go together: a run has one objective"),
        ("simclr+clip", "one objective"),
        ("tome+random-mask", "one token method"),
        ("clip+random-masc", "'random-masc' is no method. Did you mean 'random-mask'"),
    ],
)
def test_what_does_not_go_together_is_told(recipe, told):
    with pytest.raises(UsageError, match=told):
        with_methods(RUN, recipe)


def test_a_name_that_is_no_method_is_left_to_others():
    assert chosen("demo") is None
    assert chosen("run.yaml") is None


@pytest.mark.parametrize("name", sorted(e.id for e in registry.entries() if e.family in KINDS["objective"] and "teacher" in e.card.needs))
def test_a_model_that_knows_nothing_is_no_teacher(name):
    with pytest.raises(UsageError, match="--from NAME"):
        with_methods(Run(init=InitConfig(preset="tiny"), budget=BudgetConfig(steps=1)), name)
