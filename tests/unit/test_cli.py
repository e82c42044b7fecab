"""The command line: frozen options, one-line errors, exit codes, clean JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import diptych
from diptych.cli import app as application
from diptych.cli.app import app, explained, run
from diptych.cli.output import Output
from diptych.core.errors import DiptychError, UsageError

FROZEN = Path(__file__).with_name("cli_options.json")


def described(parameter) -> str:
    """``"--family, one, default null"``: the spelling, whether it repeats, and its default."""
    repeats = parameter.nargs != 1 or getattr(parameter, "multiple", False)
    value = parameter.default
    plain = value if isinstance(value, bool | int | float | str) or not value else str(value)
    shown = "required" if parameter.required else f"default {json.dumps(plain if plain != [] and plain != () else None)}"
    return f"{'/'.join(parameter.opts)}, {'many' if repeats else 'one'}, {shown}"


def options() -> dict[str, list[str]]:
    """Every parameter by verb."""
    commands = typer.main.get_command(app).commands
    return {verb: [described(parameter) for parameter in command.params] for verb, command in sorted(commands.items())}


def test_the_command_line_is_frozen():
    """A changed option breaks somebody's script. When it is meant: python tests/unit/test_cli.py rewrites the file."""
    assert options() == json.loads(FROZEN.read_text(encoding="utf-8"))


def test_every_verb_has_json_and_debug():
    shared = {"--json, one, default false", "--debug, one, default false"}
    assert [verb for verb, found in options().items() if not shared <= set(found)] == []


def one_line_error(capsys, code: int, *arguments: str) -> str:
    assert run(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cataloge"], ["cataloge", "catalogue"]),
        (["catalogue", "--famly", "x"], ["--famly", "--family"]),
        (["catalogue", "--family"], ["--family"]),
        (["catalogue", "--family", "adopt"], ["adopt", "adapt"]),
        (["catalogue", "--status", "done"], ["done", "planned"]),
        (["demo", "--seconds", "soon"], ["--seconds", "--help"]),
        (["demo", "--seconds", "0"], ["--seconds"]),
        (["evaluate"], ["model"]),
        (["classify", "mini", "--labels", "a,b"], ["mini", "model"]),
        (["classify", "--model", "mini", "x.png"], ["--labels"]),
        (["classify", "mini", "x.png", "--labels", ","], ["labels"]),
        (["classify", "mini", "x.png", "--labels", "a,b,a"], ["'a'", "twice"]),
        (["encode", "mini"], ["nothing to encode"]),
        (["encode", "mini", "--text", "a", "--out", "rows.np"], [".np", ".npy"]),
        (["convert", "mini", "out", "--to", "onyx"], ["onyx"]),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(capsys, arguments, words):
    line = one_line_error(capsys, 2, *arguments)
    assert line.startswith("error: ")
    assert all(word in line for word in words), line
    shown = json.loads(one_line_error(capsys, 2, *arguments, "--json"))
    assert set(shown) == {"error"}
    assert set(shown["error"]) == {"what", "why", "mend"}
    assert all(shown["error"].values())


@pytest.mark.parametrize(
    "arguments",
    [
        ["classify", "mini", "no-such.png", "--labels", "a,b"],
        ["classify", "mini", "x.png", "--labels-file", "no-such.txt"],
        ["report", "no-such-folder"],
    ],
)
def test_failures_are_one_line_and_exit_1(capsys, arguments):
    assert "no" in one_line_error(capsys, 1, *arguments)


def test_an_unforeseen_error_names_itself_and_debug_shows_the_traceback(capsys, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("of the test\nsecond line")

    monkeypatch.setattr("diptych.core.catalogue.catalogue", fail)
    line = one_line_error(capsys, 1, "catalogue")
    assert "ZeroDivisionError" in line
    assert "of the test" in line
    assert "--debug" in line
    assert run(["catalogue", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err
    assert json.loads(one_line_error(capsys, 1, "catalogue", "--json"))["error"]["what"] == "unexpected ZeroDivisionError"


def test_an_interrupt_is_one_line_and_130(capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("diptych.core.catalogue.catalogue", stop)
    assert "interrupted" in one_line_error(capsys, 130, "catalogue")
    monkeypatch.setattr(application, "app", stop)
    assert "interrupted" in one_line_error(capsys, 130, "catalogue")


def test_a_flag_after_two_dashes_is_a_word(capsys):
    assert run(["classify", "--labels", "a,b", "--", "mini", "--json"]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_exit_codes_of_the_process():
    def call(*arguments):
        return subprocess.run([sys.executable, "-m", "diptych", *arguments], capture_output=True, text=True, timeout=60)

    assert call("--version").stdout.strip() == diptych.__version__
    assert call().returncode == 0
    assert call("no-such-verb").returncode == 2
    assert call("report", "no-such-folder").returncode == 1
    assert call("catalogue", "--json").returncode == 0


def test_a_closed_pipe_is_no_traceback():
    command = f"{sys.executable} -m diptych catalogue --json | head -c 10"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in result.stderr


def test_a_signal_from_the_keyboard_ends_the_process_with_130():
    code = "\n".join(
        (
            "import signal, time, diptych.core.catalogue as module",
            "signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background inherits that it is ignored",
            "from diptych.cli.app import run",
            "module.catalogue = lambda *_: (print('up', flush=True), time.sleep(30))",
            "raise SystemExit(run(['catalogue']))",
        )
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "up\n"  # what a verb prints goes to standard error
        os.kill(process.pid, signal.SIGINT)
        assert process.stderr.read().count("\n") == 1
    assert process.returncode == 130


def test_json_stays_clean_when_a_library_prints(capsys):
    with Output(as_json=True) as out:
        print("chatter")
        out.say("a [bold]line[/bold]")
        out.result({"a": "é"}, "shown")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"a": "é"}
    assert "chatter" in captured.err
    assert "a [bold]line[/bold]" in captured.err


def test_errors_become_lines():
    assert explained(UsageError("a", "b", "c"))[1] == 2
    assert explained(DiptychError("a", "b", "c"))[1] == 1
    assert explained(typer.Abort())[1] == 130
    assert explained(OSError("full"))[0].as_dict()["error"]["why"] == "full"


def test_unknown_attributes_of_the_package_are_attribute_errors():
    with pytest.raises(AttributeError, match="merge"):
        _ = diptych.merge


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(options(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
