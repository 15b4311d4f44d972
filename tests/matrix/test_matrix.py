"""A part of the matrix: one export per architecture, over all exporters and kinds of masks."""

from __future__ import annotations

import subprocess
import sys

import pytest

from matrix import exporters, records, runner, table
from matrix.truth import truth

LEAST = 0.97
"""Share of the attentions that is recovered, over all cells."""

CELLS = (
    "bert-dynamo-sdpa-20",
    "modernbert-torchscript-sdpa-17",
    "deberta-v3-torchscript-eager-17",
    "bloom-torchscript-eager-17",
    "gemma2-dynamo-eager-18",
    "mixtral-torchscript-sdpa-17",
    "qwen3-dynamo-sdpa-23",
    "t5-decoder-torchscript-eager-17",
    "swin-torchscript-sdpa-17",
    "llama-cached-torchscript-sdpa-17",
)
"""Padding, windows, relative positions inside the scores, ALiBi, softcap with windows, a router,
an operator of the exporter's own, relative positions and cross attention, shifted windows, caches.
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, runner.Facts]:
    """What Burnish makes of every cell, each export and run in a child of its own."""
    folder = tmp_path_factory.mktemp("matrix")
    # In a process of its own: it forks, and other tests have left threads in this one.
    command = [sys.executable, runner.__file__, str(folder), "--jobs", "2", "--no-peer", *CELLS]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    failed = [line for line in exporters.read(folder) if line["status"] != "ok"]
    assert failed == []
    return records.read(folder)


@pytest.mark.parametrize("name", CELLS)
def test_outputs_are_those_of_the_export(results: dict[str, runner.Facts], name: str) -> None:
    line = results[name]
    assert table.failures(line) == []
    assert line["ours"]["trials"] > 0
    assert line["ours"]["rejected"] == {}


@pytest.mark.parametrize("name", CELLS)
def test_all_is_expected_that_torch_computes(results: dict[str, runner.Facts], name: str) -> None:
    recovered = results[name]["ours"]["recovered"]
    counts = truth(exporters.parse(name).architecture)
    assert {kind: recovered[kind]["expected"] for kind in counts} == counts


@pytest.mark.parametrize("name", CELLS)
def test_normalizations_and_activations(results: dict[str, runner.Facts], name: str) -> None:
    recovered = results[name]["ours"]["recovered"]
    for kind in ("normalization", "activation"):
        assert recovered[kind]["found"] == recovered[kind]["expected"], recovered[kind]


def test_attentions(results: dict[str, runner.Facts]) -> None:
    counts = {name: line["ours"]["recovered"]["attention"] for name, line in results.items()}
    found = sum(item["found"] for item in counts.values())
    assert found >= LEAST * sum(item["expected"] for item in counts.values()), counts
    unexplained = {
        name: words
        for name, line in results.items()
        for words in table.misses(line)
        if "no reason given" in words
    }
    assert unexplained == {}
