"""Nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "numpy",
    "pyarrow",
    "matplotlib",
    "sklearn",
    "PIL",
    "tokenizers",
    "huggingface_hub",
    "webdataset",
    "kornia",
    "transformers",
    "yaml",
)
REPORT = "import json, sys; print('\\n' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"


def modules_after(code: str) -> set[str]:
    result = subprocess.run([sys.executable, "-c", f"{code}\n{REPORT}"], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import diptych; diptych.__version__; dir(diptych)",
        "from diptych.cli.app import run; assert run(['--help']) == 0",
        "from diptych.cli.app import run, VERBS; assert not any(run([verb.NAME, '--help']) for verb in VERBS)",
        "from diptych.cli.app import run; assert run(['catalogue', '--json']) == 0",
        "from diptych.cli.app import run; assert run(['train', '--no-such-option']) == 2",
    ],
)
def test_heavy_packages_stay_out(code):
    assert modules_after(code) & set(HEAVY) == set()


def test_the_check_sees_a_heavy_import():
    assert "numpy" in modules_after("import numpy")
