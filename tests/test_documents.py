"""README and documentation: what they show is parsed by the program, and run where it can be."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from harness import unsupervised
from test_cli import command
from test_manners import parsed

import burnish

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TAGGER = ROOT / "examples" / "tagger"

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
INDENTED = re.compile(r"(?:^    \S.*\n)+", re.M)

PLACEHOLDERS = re.compile(r"[\[\]|]|\.\.\.|\b[A-Z]{2,}\b")
"""What a line has that shows a form of command lines rather than one of them."""

RUNNABLE = {"model.onnx", "model.int8.onnx", "sentences.txt"}
"""Files that examples may name to be run on the tagger."""

QUICK = ("--no-measure", "--dry-run", "-q")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def command_lines(path: Path) -> Iterator[list[str]]:
    """The command lines of ours on a page, in blocks and in backticks within its tables."""
    text = path.read_text()
    blocks = [body for kind, body in FENCE.findall(text) if kind in ("", "sh", "bash", "console")]
    blocks += INDENTED.findall(FENCE.sub("", text))
    for line in "\n".join(blocks).splitlines():
        for part in line.split("&&"):
            typed = re.split(r"  #| [|>] ", part)[0].strip().removeprefix("$ ")
            if typed.startswith("optimize ") and not PLACEHOLDERS.search(typed):
                yield shlex.split(re.sub(r"\s{2,}.*", "", typed))


LINES = [
    pytest.param(words, id=f"{name(path)}: {' '.join(words)}")
    for path in PAGES
    for words in command_lines(path)
]


def test_there_are_lines_to_look_at() -> None:
    assert len(LINES) > 25


@pytest.mark.parametrize("words", LINES)
def test_command_lines_are_parsed(words: list[str]) -> None:
    parsed(words)


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tagger's folder, with an artifact beside the model, as the pages have it."""
    folder = tmp_path_factory.mktemp("documents") / "tagger"
    shutil.copytree(TAGGER, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    with unsupervised():
        assert command(folder / "model.onnx", "--int8", "--no-measure", "--no-check", "-q") == 0
    return folder


def runnable() -> dict[str, list[str]]:
    """Lines of the pages that name nothing but the tagger's files, each once; none that times."""
    found = {}
    for parameter in LINES:
        words = parameter.values[0]
        kinds = r"\.(onnx|txt|jsonl|json|ya?ml|xml|html)$"
        files = {word for word in words if re.search(kinds, word)}
        folders = [word for word in words[1:] if "folder" in word or word in ("llm", "texts")]
        quick = words[1] in ("inspect", "compare", "passes") or words[1].endswith(".onnx")
        costly = {"auto", "--provider", "--data"} & set(words)
        if files and files <= RUNNABLE and not folders and quick and not costly:
            found[" ".join(words)] = words
    return found


@pytest.mark.parametrize("words", list(runnable().values()), ids=list(runnable()))
def test_command_lines_run_on_the_tagger(
    words: list[str], tagger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without timing and writing; the main job also without checks, which other tests do."""
    monkeypatch.chdir(tagger)
    own = words[1] in ("inspect", "compare", "passes", "evaluate")
    extra = ("-q",) if own else (*QUICK, "--no-check")
    extra = tuple(item for item in extra if item not in words)
    with unsupervised():
        assert command(*words[1:], *extra) == 0


def blocks() -> Iterator[Any]:
    for path in PAGES:
        for index, (kind, body) in enumerate(FENCE.findall(path.read_text())):
            if kind == "python":
                yield pytest.param(body, id=f"{name(path)} {index}")


@pytest.mark.parametrize("body", list(blocks()))
def test_python_blocks_use_what_there_is(body: str) -> None:
    """Names of ours exist, and functions take the arguments they are given."""
    if body.startswith("burnish.") and ": " in body:  # a signature of the reference
        return
    known = {"optimize": {*burnish.Options.__annotations__, "progress"}}
    for item in ("load", "inspect"):
        known[item] = set(inspect.signature(getattr(burnish, item)).parameters)
    for node in ast.walk(ast.parse(body)):
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
            continue
        if node.value.id == "burnish":
            assert node.attr in burnish.__all__
    for node in ast.walk(ast.parse(body)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            whole = ast.unparse(node.func)
            if whole.startswith("burnish.") and node.func.attr in known:
                assert {word.arg for word in node.keywords} <= known[node.func.attr]


def test_python_of_the_pages_runs(tagger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of the tutorial and of the page about Python, on the tagger."""
    monkeypatch.chdir(tagger)
    for page in ("tutorial.md", "how-to/python.md"):
        names: dict[str, Any] = {}  # of the whole page, as a reader types it
        for kind, body in FENCE.findall((ROOT / "docs" / page).read_text()):
            if kind == "python" and "basicConfig" not in body:
                with unsupervised():
                    exec(compile(body, page, "exec"), names)


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_those_that_are_there() -> None:
    """`make docs` writes them anew."""
    pages = generator().pages()
    for file, text in pages.items():
        assert (ROOT / "docs" / file).read_text() == text, f"{file}: make docs"
    there = {path.name for path in (ROOT / "docs" / "passes").glob("*.md")}
    assert there == {Path(file).name for file in pages if file.startswith("passes/")}


def test_every_page_is_reachable_and_no_link_leads_nowhere() -> None:
    linked = set()
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", path.read_text()):
            file = (path.parent / target).resolve()
            assert file.exists(), f"{name(path)} links to {target}"
            linked.add(file)
    start = (ROOT / "docs" / "index.md").resolve()
    orphans = {path.resolve() for path in PAGES[1:]} - linked - {start}
    late = {ROOT / "docs" / page for page in ("zoo.md", "ci.md", "reports.md")}
    assert not orphans - late
