"""Pure functions from one source file to what it does against the rules; the tests beside this run them on every file."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "diptych"

LEAVES = ("objectives", "tokens", "captions", "adapt", "continual", "weights", "distil", "attack", "defend", "explain", "dense", "modal")
LEVELS = {
    "core": 0,
    "data": 1,
    "towers": 2,
    **dict.fromkeys(LEAVES, 3),
    "engine": 4,
    "evaluate": 5,
    "search": 5,
    "recipes": 6,
    "cli": 7,
}
FREE = ("__init__.py", "__main__.py")  # the package's own two files, which only look things up
EXCEPT_ALLOWED = {
    ("cli/app.py", "run"): "the one place where any error becomes a line",
    ("evaluate/measure.py", "attempt"): "one protocol that fails must not lose the numbers of the others",
    ("evaluate/details.py", "_shown"): "figures that cannot be made must not lose the numbers",
    ("data/tokenizers.py", "from_file"): "the tokenizers library raises plain Exception for a bad file",
}
FILE_LINES, METHOD_LINES, FUNCTION_LINES = 300, 200, 60


def source_files() -> list[Path]:
    """Every Python file of the package."""
    return sorted(SRC.rglob("*.py"))


def imported(module: str, tree: ast.AST, exports: dict[str, str]) -> Iterator[tuple[int, str]]:
    """``(line, dotted name)`` of every import of the package, wherever it stands; ``from diptych import load`` gives load's module."""
    package = module.split(".")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join(package[: len(package) - node.level] + ([node.module] if node.module else [])) if node.level else node.module or ""
            )
            for alias in node.names:
                yield node.lineno, exports.get(alias.name, f"{base}.{alias.name}") if base == "diptych" else f"{base}.{alias.name}"


def arrows(path: str, text: str, exports: dict[str, str]) -> list[str]:
    """Imports that point upward or sideways. ``path`` is relative to the package (``"engine/loop.py"``)."""
    if path in FREE:
        return []
    home = path.split("/")[0]
    if home == "models":
        return [] if [type(node) for node in ast.parse(text).body] == [ast.Expr] else [f"{path}: models holds weights, no code"]
    if home not in LEVELS:
        return [f"{path}: the folder {home!r} has no place in the order of imports"]
    wrong = []
    module = "diptych." + path.removesuffix(".py").replace("/", ".")
    for line, name in imported(module, ast.parse(text), exports):
        parts = name.split(".")
        if parts[0] != "diptych" or len(parts) < 2 or parts[1] in ("__version__", "__main__"):
            continue
        there = parts[1]
        if there not in LEVELS:
            wrong.append(f"{path}:{line} imports {name}, which has no place in the order of imports")
        elif there != home and LEVELS[there] >= LEVELS[home]:
            wrong.append(f"{path}:{line} imports {name}: {home} may not see {there}")
    return wrong


def is_method(tree: ast.Module) -> bool:
    """Whether the file declares a CARD."""
    return any(isinstance(n, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "CARD" for t in n.targets) for n in tree.body)


def sizes(path: str, text: str) -> list[str]:
    """Files and functions that are too long. A function's docstring does not count."""
    tree = ast.parse(text)
    limit, lines = METHOD_LINES if is_method(tree) else FILE_LINES, text.count("\n")
    wrong = [f"{path} has {lines} lines, {limit} allowed"] if lines > limit else []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            told = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
            words = (first.end_lineno or first.lineno) - first.lineno + 1 if told else 0
            length = (node.end_lineno or node.lineno) - node.lineno + 1 - words
            if length > FUNCTION_LINES:
                wrong.append(f"{path}:{node.lineno} {node.name} has {length} lines, {FUNCTION_LINES} allowed")
    return wrong


def dotted(node: ast.AST) -> str:
    """``"torch.load"`` for the expression of that name, "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{base}.{node.attr}" if (base := dotted(node.value)) else f"?.{node.attr}"
    return ""


def forbidden(path: str, text: str) -> list[str]:
    """Pickle in any form, ``.cuda()``, stubs, and exceptions caught too widely."""
    wrong: list[str] = []

    def visit(node: ast.AST, function: str) -> None:
        function = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        for reason in reasons(node, path, function):
            wrong.append(f"{path}:{getattr(node, 'lineno', 0)} {reason}")
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(ast.parse(text), "")
    marks = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK")) + r")\b")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and marks.search(token.string):
            wrong.append(f"{path}:{token.start[0]} leaves something for later: {token.string}")
    return wrong


def reasons(node: ast.AST, path: str, function: str) -> Iterator[str]:
    """What is forbidden about one node."""
    if isinstance(node, ast.Attribute) and dotted(node) in ("torch.load", "torch.save"):
        yield f"uses {dotted(node)}, which pickles"
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr == "cuda":
            yield "calls .cuda(); a device is an argument"
        if any(k.arg == "allow_pickle" and not (isinstance(k.value, ast.Constant) and k.value.value is False) for k in node.keywords):
            yield "allows pickle"
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    names += [f"{node.module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom) else []
    for name in names:
        if name.split(".")[0] in ("pickle", "cPickle", "dill", "joblib", "torchvision") or name in ("torch.load", "torch.save"):
            yield f"imports {name}"
    if isinstance(node, ast.Raise) and node.exc is not None:
        raised = dotted(node.exc.func) if isinstance(node.exc, ast.Call) else dotted(node.exc)
        if raised == "NotImplementedError":
            yield "raises NotImplementedError"
    if isinstance(node, ast.ExceptHandler) and (path, function) not in EXCEPT_ALLOWED:
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        if any(kind is None or dotted(kind) in ("Exception", "BaseException") for kind in caught):
            yield "catches everything"
