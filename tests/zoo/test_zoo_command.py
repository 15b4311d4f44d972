"""`optimize zoo` as a user runs it: converted or explained, killed and begun again, two at once."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import zoos
from zoos import artifacts

from burnish import cli

OPTIONS = ("--memory-limit", "2.2GB", "--threads", "1")

MADE = {"encoders/one.int8.onnx", "encoders/same.int8.onnx", "small <b>.opt.onnx"}


def program(file: Path, output: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "burnish", "zoo", str(file), "-o", str(output), *OPTIONS, *more]


def report(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "zoo.json").read_text())
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoos.mixed(tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="module")
def run(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The output folder of a run that nobody disturbed, and what it printed."""
    output = tmp_path_factory.mktemp("out")
    done = subprocess.run(program(source, output), capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    return output, done.stdout, done.stderr


def test_each_is_converted_or_explained(run: tuple[Path, str, str]) -> None:
    output, shown, told = run
    rows = zoos.by_name(report(output))
    assert {row["output"] for row in rows.values() if row["output"]} == MADE
    assert rows["encoders/one.onnx"]["attentions"] == {"expected": 2, "found": 2}
    assert "attention" in rows["encoders/one.onnx"]["passes"]
    assert rows["encoders/one.onnx"]["drop"] < 0.01
    assert rows["encoders/one.onnx"]["peak_bytes"] <= rows["encoders/one.onnx"]["need_bytes"]
    assert "cut off" in rows["broken.onnx"]["reason"]
    assert rows["huge/huge.onnx"]["exit_code"] == 5
    assert "no weights" in rows["empty"]["reason"]
    assert "2 converted, 1 unchanged, 3 failed" in " ".join(shown.split())
    assert "6 models" in told
    assert "\x1b" not in shown + told
    for name in MADE:
        onnxruntime.InferenceSession(str(output / name))
    text = (output / "zoo.html").read_text()
    assert "small &lt;b&gt;.onnx" in text
    told = json.loads((output / "encoders" / "one.int8.report.json").read_text())
    assert told["output"]["path"] == str(output / "encoders" / "one.int8.onnx")


def test_killed_and_begun_again_it_makes_the_same_bytes(
    source: Path, run: tuple[Path, str, str], tmp_path: Path
) -> None:
    whole = artifacts(run[0])
    for moment in ("in work", "after the first"):
        with subprocess.Popen(
            program(source, tmp_path), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        ) as process:
            assert process.stderr is not None
            if moment == "in work":
                _wait_for(tmp_path / ".zoo" / "work", "**/.burnish-*")
            else:
                _wait_for(tmp_path, "**/*.report.json")
            process.kill()
        part = artifacts(tmp_path)
        assert all(whole[name] == content for name, content in part.items())
        assert moment != "in work" or not part
    # Two at once: the second waits, and finds everything done.
    pair = [
        subprocess.Popen(program(source, tmp_path), stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    told = [process.communicate() for process in pair]
    assert [process.returncode for process in pair] == [1, 1]
    assert sum(b"waiting for another run on this folder" in error for _, error in told) == 1
    assert artifacts(tmp_path) == whole
    assert not any((tmp_path / ".zoo" / "work").iterdir())
    assert report(tmp_path)["known"] == 3


def _wait_for(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        # Folders come and go while they are looked through.
        with contextlib.suppress(FileNotFoundError):
            if any(folder.glob(pattern)):
                return
        time.sleep(0.02)
    raise AssertionError(pattern)


def command(*arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", ["optimize", "zoo", *map(str, arguments)])
        cli.main()
    return int(stop.value.code or 0)


def test_options_at_the_prompt_win_and_what_is_known_is_shown(
    source: Path, run: tuple[Path, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    output = run[0]
    assert command(source, "-o", output, *OPTIONS, "--since", output / "zoo.json") == 1
    shown = capsys.readouterr()
    assert "(3 of them known)" in shown.out
    assert "nothing is worse than in" in shown.out
    assert "6 models, 3 of them known" in shown.err
    assert command(source, "-o", output / "dry", "--int9") == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere", "-o", "OUT"], 7, "error: nowhere: no such file or directory"),
        (["zoo.yaml", "-o", "zoo.yaml"], 2, "the output zoo.yaml is a file"),
        (["zoo.yaml", "-o", "OUT", "--since", "nowhere"], 7, "nowhere cannot be read"),
        (["zoo.yaml", "-o", "OUT", "--since", "zoo.yaml"], 2, "zoo.yaml is no report of a zoo"),
        (["zoo.yaml", "-o", "/proc/out"], 7, "/proc/out"),
        (["zoo.yaml", "-o", "OUT", "--shape", "8"], 2, "--shape 8 is not NAME=SIZE"),
        (["zoo.yaml", "-o", "OUT", "--recipe", "cpu-int9"], 2, "try cpu-int8"),
    ],
)
def test_what_is_refused_before_any_work(
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(source.parent)
    assert command(*arguments) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert not os.path.exists("OUT")
