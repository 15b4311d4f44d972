"""Who is in a zoo: folders, lists and YAML, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from zoos import tiny

from burnish.driver.zoo.members import members, merged
from burnish.optimizer.errors import BurnishError, StorageError, UsageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("b.onnx", "a.onnx", "encoders/large-1.onnx", "encoders/small.onnx", ".x/h.onnx"):
        tiny(tmp_path / name)
    for folder, files in {
        "bert": ["config.json", "model.safetensors", "onnx.onnx"],
        "exported": ["config.json", "model.onnx"],
        "bare": ["config.json"],
        "artifact": ["manifest.json", "model.onnx"],
        "notes": ["readme.md"],
    }.items():
        (tmp_path / folder).mkdir()
        for file in files:
            (tmp_path / folder / file).write_text('{"burnish": "1"}')
    return tmp_path


def names(source: Path, output: str = "out") -> list[str]:
    return [member.name for member in members(source, source.parent / output)]


def test_a_folder(root: Path) -> None:
    assert names(root) == [
        "a.onnx", "b.onnx", "bare", "bert", "encoders/large-1.onnx", "encoders/small.onnx",
        "exported/model.onnx",
    ]  # fmt: skip
    assert names(root / "bert") == ["bert"]
    with pytest.raises(UsageError, match="no model"):
        names(root / "notes")


def test_a_list(root: Path) -> None:
    listed = root / "list.txt"
    listed.write_text("# ours\nb.onnx  # first\n\nencoders/*.onnx\nmissing.onnx\nbert\nb.onnx\n")
    assert names(listed) == [
        "b.onnx", "encoders/large-1.onnx", "encoders/small.onnx", "missing.onnx", "bert",
    ]  # fmt: skip
    listed.write_text(f"{root / 'a.onnx'}\n../{root.name}/b.onnx\nencoders\n")
    assert names(listed)[0] == "a.onnx"
    assert names(listed)[1] in ("b.onnx", f"../{root.name}/b.onnx")
    assert len(names(listed)) == 4


def test_yaml_with_patterns(root: Path) -> None:
    file = root / "zoo.yaml"
    file.write_text(
        "models: [encoders/*.onnx, bert]\n"
        "options: {int8: true, data: texts.txt}\n"
        "patterns:\n"
        "  '*large*': {max_drop: 0.02}\n"
        "  bert: {fp16: true, no-measure: true}\n"
    )
    options = {member.name: member.options for member in members(file, root / "out")}
    data = str(root / "texts.txt")
    assert options == {
        "encoders/large-1.onnx": {"int8": True, "data": data, "max-drop": 0.02},
        "encoders/small.onnx": {"int8": True, "data": data},
        "bert": {"data": data, "fp16": True, "no-measure": True},
    }


def test_yaml_without_models_means_all_below_it(root: Path) -> None:
    (root / "zoo.yml").write_text("options: {int8: true}\n")
    assert names(root / "zoo.yml") == names(root)


def test_a_recipe_comes_before_what_stands_beside_it(root: Path) -> None:
    (root / "mine.yaml").write_text("int8: true\nmax-drop: 0.5\n")
    (root / "zoo.yaml").write_text(
        "models: [a.onnx]\noptions: {max-drop: 0.1, recipe: mine.yaml}\n"
    )
    assert members(root / "zoo.yaml", root / "out")[0].options == {"int8": True, "max-drop": 0.1}
    (root / "zoo.yaml").write_text("models: [a.onnx]\noptions: {recipe: cpu-int8}\n")
    assert members(root / "zoo.yaml", root / "out")[0].options["int8"] is True


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a]", "a zoo is a mapping"),
        ("", "a zoo is a mapping"),
        ("model: [a.onnx]", "there is no key model; try models"),
        ("models: a.onnx", "models is a list"),
        ("models: [3]", "models is a list"),
        ("models: []", "no model"),
        ("models: [none-*.onnx]", "nothing matches none-*.onnx"),
        ("models: [/x/*.onnx]", "absolute"),
        ("options: {int9: true}", "there is no option int9 (options); try int"),
        ("options: {int8: 3}", "int8 is true or false"),
        ("options: [int8]", "options go by name"),
        ("options: {output: x}", "output is no part of a recipe"),
        ("options: {recipe: cpu-int9}", "there is no recipe cpu-int9 (options); try cpu-int8"),
        ("options: {recipe: 3}", "recipe is a name"),
        ("patterns: [a]", "patterns is options by pattern"),
        ("patterns: {'x*': {int8: true}}", "the pattern x* matches no model"),
        ("patterns: {'a*': {max-dorp: 1}}", "try max-drop"),
        ("patterns: {'a*': 3}", "options go by name"),
        ("a: b: c", "it is no YAML"),
    ],
)
def test_what_is_wrong_with_yaml(root: Path, text: str, said: str) -> None:
    (root / "zoo.yaml").write_text(text)
    with pytest.raises(BurnishError) as raised:
        names(root / "zoo.yaml")
    assert raised.value.exit_code == 2
    assert said in raised.value.line("zoo.yaml")


def test_what_is_no_zoo(root: Path) -> None:
    with pytest.raises(UsageError, match="one model is no zoo"):
        names(root / "a.onnx")
    with pytest.raises(StorageError, match="no such file"):
        names(root / "nowhere.txt")
    (root / "bytes.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="UTF-8"):
        names(root / "bytes.txt")


@pytest.mark.parametrize(
    ("over", "found"),
    [
        ({}, {"int8": True, "static": True, "seed": 1}),
        ({"seed": 2}, {"int8": True, "static": True, "seed": 2}),
        ({"fp16": True}, {"seed": 1, "fp16": True}),
        ({"precision": "auto"}, {"seed": 1, "precision": "auto"}),
    ],
)
def test_a_precision_takes_the_place_of_another(over: dict[str, Any], found: Any) -> None:
    assert merged({"int8": True, "static": True, "seed": 1}, over) == found
