"""Every file of the package keeps the rules, and the rules can fail."""

from __future__ import annotations

import ast

import house as rules
import pytest

import diptych
from diptych.core.registry import entries

FILES = rules.source_files()
EXPORTS = diptych._EXPORTS


def relative(path) -> str:
    return path.relative_to(rules.SRC).as_posix()


def test_imports_point_down_only():
    assert [w for path in FILES for w in rules.arrows(relative(path), path.read_text(encoding="utf-8"), EXPORTS)] == []


def test_files_and_functions_are_short():
    assert [w for path in FILES for w in rules.sizes(relative(path), path.read_text(encoding="utf-8"))] == []


def test_nothing_forbidden():
    assert [w for path in FILES for w in rules.forbidden(relative(path), path.read_text(encoding="utf-8"))] == []


def test_every_module_and_public_function_of_a_method_is_documented():
    missing = []
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not ast.get_docstring(tree):
            missing.append(relative(path))
        if rules.is_method(tree):
            missing += [f"{relative(path)}:{n.lineno} {n.name}" for n in tree.body if public(n) and not ast.get_docstring(n)]
    assert missing == []


def public(node) -> bool:
    return isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")


def test_every_method_has_its_reference_and_a_paper():
    """``tests/reference/NAME.py`` holds its twin; a protocol is a composition of metrics, so unit tests that name it will do."""
    protocols = "\n".join(path.read_text(encoding="utf-8") for path in (rules.ROOT / "tests" / "unit" / "evaluate").rglob("test_*.py"))
    missing = []
    for entry in entries():
        stem = entry.module.rsplit(".", 1)[1]
        tested = (rules.ROOT / "tests" / "reference" / f"{stem}.py").is_file()
        if not tested and not (entry.family == "protocol" and stem in protocols):
            missing.append(f"{entry.module}: tests/reference/{stem}.py")
        if not entry.card.paper or not entry.card.where:
            missing.append(f"{entry.module}: its card names no paper or no place in it")
    assert missing == []


def test_no_method_imports_another():
    """What methods share stands in a folder ``parts``; protocols and towers are built on one another and are left out."""
    modules = {entry.module for entry in entries() if entry.family not in ("protocol", "tower")}
    exports = {}
    wrong = [
        f"{entry.module} imports {name}"
        for entry in entries()
        if entry.family not in ("protocol", "tower")
        for path in [rules.SRC.parent / (entry.module.replace(".", "/") + ".py")]
        for _, name in rules.imported(entry.module, ast.parse(path.read_text(encoding="utf-8")), exports)
        if any(name == other or name.startswith(f"{other}.") for other in modules - {entry.module})
    ]
    assert wrong == []


TRAINED = ("objective", "views", "tokens", "captions", "tower", "study")
WITHOUT_CLAIM = {
    "clip": "what the others are held against",
    "siglip": "measured by the golden steps and the formats; its claim is about batches of thousands",
}


def test_every_method_of_training_has_its_claim():
    claims = {path.stem for path in (rules.ROOT / "benchmarks" / "claims").glob("*.py")}
    stems = {entry.id: entry.module.rsplit(".", 1)[1] for entry in entries() if entry.family in TRAINED}
    assert sorted(identity for identity, stem in stems.items() if stem not in claims and identity not in WITHOUT_CLAIM) == []


def test_every_method_of_adaptation_has_its_claim():
    claims = {path.stem for path in (rules.ROOT / "benchmarks" / "claims" / "adapt").glob("*.py")}
    stems = {entry.id: entry.module.rsplit(".", 1)[1] for entry in entries() if entry.family == "adapt"}
    assert sorted(identity for identity, stem in stems.items() if stem not in claims) == []


@pytest.mark.parametrize(
    ("path", "text", "word"),
    [
        ("core/x.py", "from diptych.data.open import open", "core may not see data"),
        ("captions/x.py", "import diptych.tokens.random_mask", "captions may not see tokens"),
        ("data/x.py", "def f():\n    from diptych import load\n", "data may not see towers"),
        ("objectives/x.py", "import diptych.tokens.random_mask", "objectives may not see tokens"),
        ("engine/x.py", "from ..evaluate import run", "engine may not see evaluate"),
        ("search/x.py", "from diptych import evaluate", "search may not see evaluate"),
        ("helpers/x.py", "", "no place"),
        ("core/x.py", "import diptych.helpers", "no place"),
        ("models/x.py", '"""Weights."""\nx = 1', "no code"),
    ],
)
def test_a_wrong_arrow_is_seen(path, text, word):
    assert word in " ".join(rules.arrows(path, text, EXPORTS))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("evaluate/x.py", "from diptych.engine.loop import train\nfrom ..core import types\nfrom diptych import __version__"),
        ("cli/x.py", "from diptych import load, evaluate\nfrom diptych.cli.app import run"),
        ("engine/x.py", "from .step import step\nimport torch"),
        ("models/__init__.py", '"""Weights."""'),
    ],
)
def test_a_right_arrow_is_not(path, text):
    assert rules.arrows(path, text, EXPORTS) == []


@pytest.mark.parametrize(
    "text",
    [
        "import torch\nx = torch.load('a')",
        "from torch import load",
        "import pickle",
        "import numpy as np\nnp.load('a', allow_pickle=True)",
        "model.cuda()",
        "self.a.b().cuda()",
        "def f():\n    raise NotImplementedError",
        "try:\n    f()\nexcept:\n    pass",
        "try:\n    f()\nexcept Exception as error:\n    pass",
        "try:\n    f()\nexcept (ValueError, BaseException):\n    pass",
        "x = 1  # TO" + "DO later",
    ],
)
def test_what_is_forbidden_is_seen(text):
    assert len(rules.forbidden("core/x.py", text + "\n")) == 1


def test_the_one_wide_except_is_allowed_by_name():
    text = "def run():\n    try:\n        f()\n    except (Exception, KeyboardInterrupt):\n        pass\n"
    assert rules.forbidden("cli/app.py", text) == []
    assert rules.forbidden("cli/app.py", text.replace("run", "walk")) != []


def test_long_files_and_functions_are_seen():
    assert rules.sizes("core/x.py", "x = 1\n" * 301)
    assert not rules.sizes("core/x.py", "x = 1\n" * 300)
    assert rules.sizes("core/x.py", "CARD = 1\n" + "x = 1\n" * 200)
    assert rules.sizes("core/x.py", "def f():\n" + "    x = 1\n" * 60)
    assert not rules.sizes("core/x.py", 'def f():\n    """One.\n\n    Two.\n    """\n' + "    x = 1\n" * 59)
