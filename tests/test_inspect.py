"""What `optimize inspect` tells of graphs, as data and as a page."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from harness import unsupervised
from rich.console import Console
from samples import encoder

from burnish import driver
from burnish.driver import Request
from burnish.rendering.inspection import render_inspect

WIDTH = 64


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inspected") / "model.onnx"
    onnx.save(encoder(width=WIDTH, vocabulary=512), path)
    return path


@pytest.fixture(scope="module")
def facts(model: Path) -> dict[str, Any]:
    with unsupervised():
        return driver.inspect(Request(str(model), shape={"batch": 2, "sequence": 8}))


def page(facts: dict[str, Any], width: int = 100) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    render_inspect(console, facts)
    return console.export_text()


def test_the_headline(facts: dict[str, Any]) -> None:
    assert facts["headline"] == (
        "encoder, 2 layers, 2 heads of 32, 32 positions, GELU, LayerNorm, hidden 64, "
        "feed-forward 128, vocabulary 512"
    )


def test_the_data_is_whole(facts: dict[str, Any]) -> None:
    assert set(facts) == {
        "schema", "input", "producer", "least_onnxruntime", "headline", "architecture",
        "signature", "roles", "operators", "weights", "products", "recovered", "attentions",
        "flops", "memory", "scaling", "options", "obstacles", "passes",
    }  # fmt: skip
    assert json.loads(json.dumps(facts)) == facts
    rows = facts["scaling"]["rows"]
    assert [(row["batch"], row["length"]) for row in rows] == [(1, 32), (8, 32)]
    assert rows[1]["flops"] == pytest.approx(8 * rows[0]["flops"])
    assert rows[1]["values_bytes"] > rows[0]["values_bytes"] > 0
    for item in facts["attentions"]:
        assert (item["causal"], item["window"], item["source"]) == (False, None, "self")
    assert [item["layer"] for item in facts["attentions"]] == [1, 2]


def test_what_options_would_bring(facts: dict[str, Any], model: Path) -> None:
    """The size with int8 is near to what the main job writes; a limit is above 1."""
    options = {item["option"]: item for item in facts["options"]}
    assert {"--int8", "--int4", "--fp16", "--pack"} <= set(options)
    assert 1.0 < options["--int8"]["limit"] < 4.0
    assert options["--pack"]["limit"] or options["--pack"]["obstacle"]
    out = model.with_name("small.onnx")
    with unsupervised():
        done = driver.optimize(
            Request(str(model), output=str(out), int8=True, force=True, measure=False, max_drop=1.0)
        )
    written = done.report["output"]["bytes"]
    assert options["--int8"]["bytes"] == pytest.approx(written, rel=0.2)


def test_what_is_in_the_way(tmp_path: Path) -> None:
    """Sizes that the export has fixed, with what to do about it."""
    message = encoder(width=WIDTH, vocabulary=512)
    for value in message.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(message, tmp_path / "fixed.onnx")
    with unsupervised():
        facts = driver.inspect(Request(str(tmp_path / "fixed.onnx")))
    fixed = [item for item in facts["obstacles"] if item["what"] == "fixed sizes"]
    assert "input_ids takes batch 2 only" in fixed[0]["reason"]
    assert "free axes" in fixed[0]["remedy"]
    text = page(facts)
    assert "in the way:\n" in text
    assert "input_ids takes batch 2 only; try an export with free axes" in text


def test_the_page(facts: dict[str, Any]) -> None:
    text = page(facts)
    assert facts["headline"] in text.replace("\n", " ")
    for part in (
        "by layer", "layers 1-2: ", "before the first attention: ", "behind the last layer: ",
        "projections: ", "work grows as batch x (", "--int8", "limits are what counts of work",
        "largest", "nothing is in the way",
    ):  # fmt: skip
        assert part in text, part


@pytest.mark.parametrize("width", [40, 60, 100, 200])
def test_tables_fit_the_terminal(facts: dict[str, Any], width: int) -> None:
    """Lines of text are the terminal's to wrap; rows of tables and branches are not."""
    rows = [row for row in page(facts, width).splitlines() if row.startswith(("├", "│", "└"))]
    assert rows
    assert max(map(len, rows)) <= width


def test_an_artifacts_folder(model: Path, tmp_path: Path) -> None:
    """Its task, and each of its graphs."""
    (tmp_path / "encoder.onnx").write_bytes(model.read_bytes())
    manifest = {"burnish": "0.1.0", "task": "text-classification", "labels": ["no", "maybe", "yes"]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with unsupervised():
        facts = driver.inspect(Request(str(tmp_path)))
    assert list(facts["parts"]) == ["encoder"]
    text = page(facts)
    assert ": an artifact for text-classification, 3 classes\n" in text
    assert "encoder, 2 layers, 2 heads of 32" in text
