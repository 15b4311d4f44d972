"""`optimize run` on an artifact's folder: text in, text out."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from generating import artifact, built
from harness import unsupervised

from burnish import cli
from burnish.runtimes.generate import Generator, open_generator


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifact("llama", tmp_path_factory.mktemp("llama"), built("llama"))


@pytest.fixture(scope="module")
def generator(folder: Path) -> Iterator[Generator]:
    made = open_generator(folder)
    yield made
    made.close()


def command(*arguments: object, stdin: str = "") -> int:
    """The exit code of `optimize run` with these arguments."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", ["optimize", "run", *map(str, arguments)])
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        with unsupervised():
            cli.main()
    return int(stop.value.code or 0)


def test_text_goes_in_and_comes_out(
    folder: Path, generator: Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(folder, "--text", "the text", "--max-new-tokens", 12) == 0
    shown = capsys.readouterr()
    assert shown.out == generator.generate("the text", max_new_tokens=12).texts[0] + "\n"
    assert shown.err.startswith("12 tokens in ") and "tokens per second after it" in shown.err


def test_text_comes_through_a_pipe_or_from_a_file(
    folder: Path, generator: Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("the text\n")
    assert command(folder, "--max-new-tokens", 5, stdin="the text\n") == 0
    piped = capsys.readouterr().out
    assert command(folder, "--file", tmp_path / "text.txt", "--max-new-tokens", 5) == 0
    assert capsys.readouterr().out == piped
    assert piped == generator.generate("the text", max_new_tokens=5).texts[0] + "\n"


def test_each_line_is_a_text(
    folder: Path, generator: Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{'the text ' * (place % 3)}goes" for place in range(10)]
    report = tmp_path / "report.json"
    given = ("--lines", "--max-new-tokens", 6, "--json", report, "--seed", 2, "--top-k", 7)
    assert command(folder, *given, stdin="\n\n".join(lines)) == 0
    facts = json.loads(report.read_text())
    expected = [
        text
        for start in (0, 8)
        for text in generator.generate(
            lines[start : start + 8], max_new_tokens=6, seed=2, top_k=7
        ).texts
    ]
    assert [row["text"] for row in facts["texts"]] == expected
    assert (facts["new_tokens"], facts["task"]) == (60, "text-generation")
    assert len(capsys.readouterr().out.rstrip("\n").split("\n")) >= 10


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (["--beams", 3], {"num_beams": 3}),
        (["--speculate", 4, "--repetition-penalty", 1.2], {"repetition_penalty": 1.2}),
        (["--temperature", 0.5, "--top-p", 0.8, "--min-p", 0.01], {"temperature": 0.5,
         "top_p": 0.8, "min_p": 0.01}),
        (["--stop", "G"], {"stop_strings": "G"}),
    ],
    ids=["beams", "guessed", "drawn", "stopped"],
)  # fmt: skip
def test_options_are_settings(
    options: list[object],
    settings: dict[str, Any],
    folder: Path,
    generator: Generator,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(folder, "--text", "the text", "--max-new-tokens", 20, *options) == 0
    expected = generator.generate("the text", max_new_tokens=20, **settings)
    assert capsys.readouterr().out == expected.texts[0] + "\n"


def test_what_is_given_is_said_to_the_model(
    folder: Path, generator: Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    template = folder / "chat_template.jinja"
    template.write_text("the {{ messages[0].content }}")
    try:
        assert command(folder, "--text", "text", "--chat", "--max-new-tokens", 6) == 0
    finally:
        template.unlink()
    expected = generator.generate("the text", max_new_tokens=6).texts[0]
    assert capsys.readouterr().out == expected + "\n"
    assert command(folder, "--text", "text", "--chat") == 2
    assert "no chat template" in capsys.readouterr().err


def test_data_alone_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(folder, "--text", "a", "--max-new-tokens", 3, "--json", "-") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["new_tokens"] == 3 and shown.err == ""


@pytest.mark.parametrize(
    ("given", "code", "reason"),
    [
        (["--text", "a", "--file", "b"], 2, "exclude each other"),
        (["--file", "no such file"], 7, "no such file or directory"),
        (["--text", "a", "--language", "xx"], 2, "no language xx"),
        (["--text", "a", "--provider", "openvino"], 2, "no text is generated on openvino"),
        (["--text", "a", "--beams", 2, "--speculate", 2], 2, "not guessed ahead"),
        (["--text", "a", "--shape", "batch=2"], 2, "on neither texts nor images"),
        ([], 2, "no text in it"),
    ],
)
def test_what_makes_no_sense_is_said(
    given: list[object],
    code: int,
    reason: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(folder, *given) == code
    assert reason in capsys.readouterr().err


def test_a_folder_without_a_manifest_does_what_its_ports_say(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tagger = Path(__file__).parents[1] / "examples" / "tagger"
    assert command(tagger, "--text", "Angela Merkel was born in Hamburg.") == 0
    assert "[Hamburg LOC]" in capsys.readouterr().out


def test_a_task_that_texts_say_nothing_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = {"burnish": "1", "task": "depth-estimation", "models": {"model": "model.onnx"}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert command(tmp_path, "--text", "a") == 3
    assert "no answers are made for the task depth-estimation" in capsys.readouterr().err
