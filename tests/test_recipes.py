"""Recipes: what they may say, what is refused, and who wins."""

from __future__ import annotations

import json
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import pytest
import typer
import yaml
from harness import unsupervised
from samples import encoder

import burnish
from burnish import cli
from burnish.driver import Request, recipes
from burnish.driver.recipe_kinds import BYTES, FLAG, INTEGER, NAMES, NUMBER, NUMBERS, PATH, SIZES
from burnish.driver.recipe_options import (
    AT_THE_PROMPT,
    OPTIONS,
    checked,
    field_of,
    fields_of,
    options_of,
    schema,
)
from burnish.optimizer.errors import BurnishError

SHIPPED = (
    "cpu-int8", "cuda-fp16", "edge", "llm-int4", "long-context", "max-accuracy", "multilingual",
)  # fmt: skip


def command(*arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", ["optimize", *map(str, arguments)])
        cli.main()
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    onnx.save(encoder(layers=1, width=32), path)
    return path


def file(folder: Path, text: str) -> Path:
    path = folder / "ours.yaml"
    path.write_text(text)
    return path


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """What `--print-recipe` says; no model is there."""
    assert command("no-model.onnx", "--print-recipe", *arguments) == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_those_that_are_shipped_hold_to_the_schema() -> None:
    assert tuple(recipes.shipped()) == SHIPPED
    folder = Path(burnish.__file__).parent / "recipes"
    kept = json.loads((folder / "schema.json").read_text())
    assert kept == schema(), "make docs writes it"
    jsonschema.Draft202012Validator.check_schema(kept)
    for path in folder.glob("*.yaml"):
        values = yaml.safe_load(path.read_text())
        jsonschema.validate(values, kept)
        assert values["description"]


@pytest.mark.parametrize("name", SHIPPED)
def test_each_runs(name: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with unsupervised():
        code = command(model, "--recipe", name, "--dry-run", "--no-measure", "-q")
    if name == "cuda-fp16" and code:  # there is no such device here, which is said
        assert code == 2
        assert "the cuda provider did not start" in capsys.readouterr().err
        return
    assert code == 0


def test_every_option_of_the_command_is_a_key_or_not_on_purpose() -> None:
    """Whoever adds an option decides; bounds are those of the command."""
    options = typer.main.get_command(cli.app).commands["model"].params  # type: ignore[attr-defined]
    by_name = {option.name.replace("_", "-"): option for option in options}
    names = {name.removesuffix("-file") for name in by_name}
    assert set(OPTIONS) - {"level"} == names - AT_THE_PROMPT - {"level"}
    for name, option in OPTIONS.items():
        if option.kind in (INTEGER, NUMBER) and name != "opset":
            ends = (by_name[name].min, by_name[name].max)
            assert ends == (option.low, option.high), name
    known_fields = {item.name for item in fields(Request)}
    assert {field_of(name) for name in OPTIONS if name != "precision"} <= known_fields


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("int9: true", "there is no option int9; try int8"),
        ("max_dorp: 0.1", "there is no option max_dorp; try max-drop"),
        ("zzz: 1", "there is no option zzz; try optimize model --help"),
        ("output: x.onnx", "output is no part of a recipe; try --output at the prompt"),
        ("trust-remote-code: true", "trust-remote-code is no part of a recipe"),
        ("int8: 1", "int8 is true or false, not 1"),
        ("int8: 'yes'", "int8 is true or false, not yes"),
        ("threads: 2.5", "threads is a whole number, not 2.5"),
        ("threads: true", "threads is a whole number, not true"),
        ("threads: -1", "threads is 0 or more, not -1"),
        ("max-drop: 2", "max-drop is 0 to 1, not 2"),
        ("max-drop: .nan", "max-drop is a number, not nan"),
        ("max-drop:", "max-drop is a number, not empty"),
        ("min-ort: 1.20", 'min-ort is a release in quotes, as "1.20", not 1.2; try quotes'),
        ("min-ort: new", "--min-ort new is not a release"),
        ("languages: [no, de]", "languages is a list of texts, not [False, 'de']; try quotes"),
        ("shape: {batch: 0}", "shape is sizes by name, as {batch: 8, sequence: 128}"),
        ("shape: batch8", "--shape batch8 is not NAME=SIZE"),
        ("layers: 3-1", "--layers 3-1 is no list of numbers"),
        ("memory-limit: much", "--memory-limit much is not a size"),
        ("provider: cpuu", "provider has no cpuu; try cpu"),
        ("precision: int5", "precision has no int5; try int"),
        ("int8: true\nint8: false", "int8 is there twice (line 2)"),
        ("max-drop: 0\nmax_drop: 1", "max-drop is there twice"),
        ("threads: &a 1\nseed: *a", "aliases are not read (line 2)"),
        ("1: true", "the key 1 is no text (line 1)"),
        ("- int8", "a recipe is options by name"),
        ("", "a recipe is options by name"),
        ("{", "it is no YAML: "),
        ("[" * 600, "it is no YAML: "),
        ("seed: 2001-99-99", "it is no YAML: "),
        ("seed: !!python/object:os.system x", "it is no YAML: "),
        ("description: 3", "description is a text"),
    ],
)
def test_what_is_refused_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    path = file(tmp_path, text)
    assert command("no-model.onnx", "--recipe", path, "--print-recipe") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}: {told}")


@pytest.mark.parametrize(
    ("name", "code", "told"),
    [
        ("cpu-int", 2, "there is no recipe cpu-int; try cpu-int8"),
        ("absent.yaml", 7, "error: absent.yaml: it cannot be read: no such file or directory"),
    ],
)
def test_recipes_that_are_not_there(
    capsys: pytest.CaptureFixture[str], name: str, code: int, told: str
) -> None:
    assert command("no-model.onnx", "--recipe", name) == code
    assert told in capsys.readouterr().err


def test_what_is_given_at_the_prompt_wins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file(tmp_path, "int8: true\nstatic: true\npack: true\nthreads: 2\nno-measure: true\n")
    recipe = ("--recipe", path)
    whole = {"int8": True, "static": True, "threads": 2, "pack": True, "no-measure": True}
    assert printed(capsys, *recipe) == whole
    assert printed(capsys, *recipe, "--threads", 0, "--no-pack", "--measure") == {
        "int8": True, "static": True,
    }  # fmt: skip
    # Another precision takes the place of the recipe's, and of what that says of it.
    rest = {"pack": True, "threads": 2, "no-measure": True}
    assert printed(capsys, *recipe, "--fp16") == {"fp16": True, **rest}
    assert printed(capsys, *recipe, "--precision", "bf16") == {"precision": "bf16", **rest}
    assert printed(capsys, *recipe, "--no-int8") == rest
    assert printed(capsys, "-O1", "--precision", "auto") == {"level": 1, "precision": "auto"}
    assert printed(capsys) == {}


def test_in_python_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(burnish.driver, "optimize", lambda request, progress: asked.append(request))
    burnish.optimize("model.onnx", recipe="cpu-int8", max_drop=0.5)
    burnish.optimize("model.onnx", recipe="cpu-int8", bf16=True, check=False)
    assert asked[0] == Request("model.onnx", int8=True, max_drop=0.5)
    assert asked[1] == Request("model.onnx", bf16=True, check=False)


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    path = file(tmp_path, f"data: texts.jsonl\ncorpus: {tmp_path / 'x'}\n")
    options = recipes.named(str(path)).options
    assert options == {"data": str(tmp_path / "texts.jsonl"), "corpus": str(tmp_path / "x")}


def sample(name: str) -> Any:
    """A value that is not the usual one."""
    option = OPTIONS[name]
    numbers = {"level": 1, "max-drop": 0.25, "min-coverage": 0.5, "opset": 20, "time-limit": 9.5}
    by_kind: dict[str, Any] = {
        FLAG.name: True, PATH.name: "x", SIZES.name: {"batch": 2}, NAMES.name: ["de", "no"],
        NUMBERS.name: [0, 3], BYTES.name: 2_000_000, INTEGER.name: 3, NUMBER.name: 2.5,
    }  # fmt: skip
    known = {"min-ort": "1.20", "task": "fill-mask", "precision": "bf16", **numbers}
    known |= {"prune": "0.3", "sparsity": "2:4"}
    if option.choices and name != "precision":
        return option.choices[-1]
    return known.get(name, by_kind.get(option.kind.name))


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_written_is_read_again(name: str) -> None:
    """Each option goes into a request, out of it, through YAML, and is the same."""
    value = sample(name)
    request = replace(Request("x.onnx"), **fields_of(checked({name: value})))
    assert request != Request("x.onnx")
    text = recipes.used(request)
    assert yaml.safe_load(text) == options_of(request) == {name: value}
    jsonschema.validate({name: value}, schema())


def test_texts_stand_for_the_same_values() -> None:
    told = {"shape": "batch=2", "languages": "de,no", "layers": "0-1,3", "memory-limit": "2MB"}
    listed = {"shape": {"batch": 2}, "languages": ["de", "no"], "layers": [0, 1, 3]}
    assert fields_of(checked(told)) == fields_of(checked({**listed, "memory-limit": 2_000_000}))


def test_the_list_and_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("recipes", "--json", "-") == 0
    assert tuple(json.loads(capsys.readouterr().out)["recipes"]) == SHIPPED
    assert command("recipes") == 0
    assert "multilingual" in capsys.readouterr().out
    assert command("recipes", file(tmp_path, "fast_gelu: true")) == 0
    assert yaml.safe_load(capsys.readouterr().out) == {"fast-gelu": True}
    assert command("recipes", file(tmp_path, "fast_gelu: 3")) == 2


def test_the_recipe_of_the_page_is_one() -> None:
    page = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text()
    text = page.split("```yaml\n")[1].split("```")[0]
    assert recipes.recipe_of("", yaml.safe_load(text)).options["int8"] is True
    assert all(f"| `{name}` |" in page for name in SHIPPED)


def test_errors_of_a_file_name_it(tmp_path: Path) -> None:
    with pytest.raises(BurnishError) as failure:
        recipes.named(str(file(tmp_path, "a: [")))
    assert failure.value.file.endswith("ours.yaml")
