"""What the repository holds and what the package ships."""

from __future__ import annotations

import re
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest
from house import ROOT, SRC

PACKAGE_LIMIT = 90_000_000
DATA = (".safetensors", ".tar", ".gz", ".npz", ".webp", ".png", ".parquet")
TRACES = {
    "a registry's host": "|".join(("py" + r"pi\.org", "python" + r"hosted\.org", "npm" + r"js\.(org|com)", "deb" + r"\.debian\.org")),
    "a path of one machine": "|".join(
        (r"(?<![\w.}$-])/wo" + r"rk/(main|shared|venv|oc)", r"(?<![\w.}$-])/ro" + "ot/", r"\.\./sha" + "red")
    ),
}


def repository_files() -> list[Path]:
    """Tracked files and new ones that git does not ignore; every file where there is no git."""
    git = shutil.which("git")
    if git and (ROOT / ".git").exists():
        listing = subprocess.run([git, "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True).stdout
        return [path for name in listing.decode().split("\0") if name and (path := ROOT / name).is_file()]
    skipped = {".venv", ".git", "runs", "__pycache__"}
    return [path for path in ROOT.rglob("*") if path.is_file() and not skipped & set(path.relative_to(ROOT).parts)]


def traces(text: str) -> list[str]:
    return [f"{name}: {match[0]}" for name, pattern in TRACES.items() if (match := re.search(pattern, text))]


def test_no_file_names_a_host_or_a_machine():
    found = []
    for path in repository_files():
        data = path.read_bytes()
        if path.suffix not in DATA and b"\0" not in data[:8000]:
            found += [f"{path.relative_to(ROOT)} has {trace}" for trace in traces(data.decode("utf-8", errors="replace"))]
    assert found == []


@pytest.mark.parametrize("text", ["https://py" + "pi.org/simple", "see /ro" + "ot/x", "cp ../sha" + "red/data", "--data /wo" + "rk/main/x"])
def test_a_trace_is_seen(text):
    assert len(traces(text)) == 1


def shipped() -> list[Path]:
    return [path for path in SRC.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def shipped_size(path: Path) -> int:
    """Bytes in the wheel, which is a zip: tars are half padding, everything else hardly shrinks."""
    return len(zlib.compress(path.read_bytes(), 1)) if path.suffix == ".tar" else path.stat().st_size


def test_the_package_is_small_enough_to_ship():
    assert sum(map(shipped_size, shipped())) <= PACKAGE_LIMIT


def licensed(folder: Path) -> bool:
    """Whether the folder, or one above it inside the package, says under which licence its content may be passed on."""
    while folder != SRC:
        if any(path.name.upper().startswith(("LICENSE", "NOTICE")) for path in folder.iterdir()):
            return True
        folder = folder.parent
    return False


def test_everything_that_ships_has_its_licence():
    assert (ROOT / "LICENSE").is_file()
    folders = {path.parent for path in shipped() if path.suffix in DATA}
    assert [str(folder.relative_to(ROOT)) for folder in sorted(folders) if not licensed(folder)] == []


def test_models_ship_without_pickle():
    assert [path.name for path in shipped() if path.suffix in (".pt", ".pth", ".bin", ".pkl", ".ckpt", ".joblib")] == []


def test_no_two_test_files_have_one_name():
    """pytest imports test files by their bare names."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
