"""How the program behaves at a prompt: help, completion, colours, widths, and typical mistakes."""

from __future__ import annotations

import builtins
import errno
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from harness import unsupervised
from onnx import TensorProto, helper
from test_cli import command, command_here, small
from typer.main import get_command

from burnish.cli import app
from burnish.commands import usage
from burnish.commands.terminal import MAIN, misused
from burnish.optimizer.errors import REMEDIES, not_written

ELSEWHERE = ("How texts are written", "How a student learns")
"""Panels of other commands than the main one."""

COMMANDS: dict[str, Any] = dict(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return small(tmp_path / "model.onnx", 17, 64)


# ---- help


@pytest.mark.parametrize("name", list(usage.EXAMPLES))
def test_help_has_panels_and_examples(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERMINAL_WIDTH", "100")
    assert command(*filter(None, [name]), "--help") == 0
    out = capsys.readouterr().out
    assert "Usage" in out
    assert "Examples" in out
    assert usage.EXAMPLES[name][0][0] in out
    if name == MAIN:
        for panel in usage.PANELS:
            assert panel in out or panel in ELSEWHERE, panel


def test_panels_name_options_that_exist() -> None:
    known = {option.name for item in COMMANDS.values() for option in item.params}
    assert set(usage.PANEL_OF) <= known
    assert len(usage.PANEL_OF) == sum(len(names) for names in usage.PANELS.values())


@pytest.mark.parametrize("typed", [typed for rows in usage.EXAMPLES.values() for typed, _ in rows])
def test_examples_of_the_help_are_parsed(typed: str) -> None:
    parsed(shlex.split(typed))


def parsed(words: list[str]) -> None:
    """Hold a command line against the real parser; what it does is not done."""
    assert words[0] in ("optimize", "burnish")
    group: Any = get_command(app)
    with group.make_context(words[0], words[1:]) as outer:
        name, chosen, rest = group.resolve_command(outer, [*outer._protected_args, *outer.args])
        chosen.make_context(name, rest, parent=outer)


# ---- completion


Offered = Callable[[str], list[str]]


@pytest.fixture
def completions(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Offered:
    """What bash is offered for the last word of a line."""

    def ask(words: str) -> list[str]:
        monkeypatch.setenv("_OPTIMIZE_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        assert command() == 0
        return capsys.readouterr().out.split()

    return ask


def test_completion_knows_commands_options_values_and_models(
    model: Path, completions: Offered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    assert "inspect" in completions("optimize ins")
    assert "--int8" in completions("optimize --int")
    assert completions("optimize mod") == ["model.onnx"]
    assert completions("optimize model.onnx --provider ope") == ["openvino"]


# ---- colours and widths


def test_no_colour_codes_where_none_are_wanted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("passes") == 0
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert command("passes") == 0
    assert "\x1b[" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    assert command("passes") == 0
    assert "\x1b[3" not in capsys.readouterr().out


def test_tables_fit_the_columns_of_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert command("passes") == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60


# ---- typical mistakes: each gets one line that says what to do


def said(capsys: pytest.CaptureFixture[str], code: int, *words: object) -> str:
    with unsupervised():
        assert command(*words) == code
    lines = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1
    assert lines[-1] == errors[0]
    assert "Traceback" not in "\n".join(lines)
    return errors[0]


def test_a_wrong_path(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = said(capsys, 7, model.with_name("modle.onnx"), "-q")
    assert "no such file or directory; try " in line
    assert line.endswith("/model.onnx")


def test_a_folder_without_a_configuration(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((model.parent,), ("inspect", model.parent)):
        line = said(capsys, 3, *words, "-q")
        assert "a folder without config.json: it is no checkpoint; try the file" in line


def test_a_pointer_of_git_lfs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "Git LFS pointer" in (line := said(capsys, 3, path, "-q"))
    assert line.endswith("try git lfs pull")


def test_a_provider_that_is_not_known(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = said(capsys, 2, model, "-q", "--provider", "gpu")
    assert "provider gpu is not known here; try cpu, cuda" in line


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("model.onnx", "--in8"), "--int8"),
        (("model.onnx", "--max-dorp", "0.1"), "--max-drop"),
        (("inspect", "model.onnx", "--shpe", "a=1"), "--shape"),
        (("inspct", "model.onnx"), "inspect"),
    ],
)
def test_a_misspelt_option(
    words: tuple[str, ...], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, 2, *words).endswith(f"; try {meant}")


def test_an_option_without_a_name_like_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, 2, "model.onnx", "--zzz").endswith("; try optimize model --help")
    assert "try optimize --help" in misused(SystemError_("Missing argument 'MODEL'."))


class SystemError_(Exception):
    """What the parser raises, as far as it is looked at."""

    def format_message(self) -> str:
        return str(self)


def test_no_space_left(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full from the first byte of an artifact on; nothing half-written stays."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    line = said(capsys, 7, model, "-q", "--no-measure")
    assert "no space left on device; try freeing space there" in line
    assert sorted(item.name for item in model.parent.iterdir()) == ["model.onnx"]


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """A real limit of the system, on a real write."""
    path = tmp_path / "big"
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from burnish.optimizer.errors import not_written\n"
        "try:\n    open(sys.argv[1], 'wb', buffering=0).write(bytes(1000)); "
        "open(sys.argv[1], 'ab', buffering=0).write(b'x')\n"
        "except OSError as error:\n    print(not_written('writing failed', error).line('m.onnx'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert "error: m.onnx: writing failed: file too large; try a higher limit" in done.stdout


def test_every_failure_of_writing_has_a_remedy() -> None:
    for number in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EPERM, errno.EDQUOT):
        line = not_written("writing failed", OSError(number, os.strerror(number))).line("x")
        assert line.endswith(REMEDIES[number])


def test_a_read_only_folder(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody may write: not even the superuser makes folders in /sys."""
    line = said(capsys, 7, model, "-q", "--no-measure", "-o", "/sys/burnish.onnx")
    assert "nothing can be written to /sys: " in line
    assert "; try -o in a folder that " in line


def test_a_missing_extra(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    real = builtins.__import__

    def without(name: str, *arguments: Any, **settings: Any) -> Any:
        if name.split(".")[0] in ("huggingface_hub", "torch"):
            raise ImportError(name)
        return real(name, *arguments, **settings)

    monkeypatch.setattr(builtins, "__import__", without)
    line = said(capsys, 2, "some-organization/some-model", "-q")
    assert "try pip install 'burnish[export]'" in line
    assert not list(tmp_path.iterdir())


def test_the_output_is_the_input(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = said(capsys, 2, model, "-q", "-o", model)
    assert line.endswith("the output would overwrite the input; try another -o")


def test_an_operator_that_nobody_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = helper.make_graph(
        [helper.make_node("Frobnicate", ["x"], ["y"], domain="com.acme")], "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    line = said(capsys, 3, tmp_path / "m.onnx", "-q", "--no-measure")
    assert "Frobnicate" in line
    assert line.endswith("try an export in standard operators")


def test_a_report_that_cannot_be_written(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("inspect", model, "-q", "--json", "/proc/report.json")
    assert command_here(*words) == 7
    assert "error: /proc/report.json: the report cannot be written: " in capsys.readouterr().err
