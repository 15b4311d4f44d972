"""The printed report: what was done, why the rest was left, and how much of it is said."""

from __future__ import annotations

from typing import Any

import pytest
from made_reports import searched
from rich.console import Console

from burnish.optimizer.static_caches import StaticCache
from burnish.rendering.report import render_report
from burnish.rendering.structure import left_lines, recovered_lines


def _step(name: str, status: str, refusals: list[tuple[str, str]], **facts: Any) -> dict[str, Any]:
    return {
        "name": name, "status": status, "rewrites": 0, "error": None, "seconds": 0.5,
        "reason": "", "detail": "",
        "refusals": [{"node": node, "reason": reason} for node, reason in refusals],
    } | facts  # fmt: skip


SLOWER = [(f"/layer.{layer}/MatMul", f"not faster (0.{80 + layer} times)") for layer in range(12)]

STEPS = [
    _step("onnxsim", "unchanged", []),
    _step("clean", "unchanged", []),
    _step("merge", "unchanged", SLOWER, reason="12 places left alone"),
    _step("linear", "kept", [("add", "its bias is not constant")], rewrites=3, detail="3 layers"),
    _step("broken", "rejected", [], reason="promised exact, but [x] differs by 1"),
]


def _report(steps: list[dict[str, Any]], **facts: Any) -> dict[str, Any]:
    return {
        "input": {"path": "model.onnx", "bytes": 1000, "nodes": 10},
        "output": {"path": "model.opt.onnx", "bytes": 1000, "nodes": 9, "written": True},
        "target": {
            "device": "a processor", "threads": 2, "provider": "cpu",
            "least_onnxruntime": "1.23", "opset": 23, "cpu": "native", "saturates": False,
        },
        "passes": steps,
        "recovered": {"attention": {"expected": 2, "found": 2, "missed": []}},
        "fidelity": None,
        "latency": None,
        "memory": {"compile_peak_rss_bytes": 1e6},
        "warnings": [],
        "providers": [],
    } | facts  # fmt: skip


def _printed(report: dict[str, Any], *, verbose: bool = False) -> list[str]:
    console = Console(width=100, highlight=False)
    with console.capture() as capture:
        render_report(console, report, verbose)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_places_with_one_reason_are_one_line_with_the_range_of_what_was_measured() -> None:
    refusals = STEPS[2]["refusals"]
    assert list(left_lines("merge", refusals)) == [
        "  merge left 12 places, /layer.0/MatMul the first: not faster (0.80 to 0.91 times)"
    ]


def test_reasons_that_differ_in_more_than_numbers_stay_apart_the_commonest_first() -> None:
    reasons = [
        ("a", "its bias is not constant"),
        ("b", "/layer.1/Add has other readers"),
        ("c", "/layer.2/Add has other readers"),
    ]
    refusals = [{"node": node, "reason": reason} for node, reason in reasons]
    assert list(left_lines("linear", refusals)) == [
        "  linear left 2 places, b the first: /layer.1/Add has other readers",
        "  linear left a: its bias is not constant",
    ]


def test_ratios_are_ordered_as_numbers_and_other_numbers_are_the_first_ones() -> None:
    reasons = [f"int8 is not faster ({size}, {ratio} times)" for size, ratio in
               (("8 x 4", "10.20"), ("9 x 4", "9.80"), ("8 x 4", "9.90"))]  # fmt: skip
    refusals = [{"node": str(index), "reason": reason} for index, reason in enumerate(reasons)]
    assert list(left_lines("int8", refusals)) == [
        "  int8 left 3 places, 0 the first: int8 is not faster (8 x 4, 9.80 to 10.20 times)"
    ]


def test_every_place_has_a_line_of_its_own_if_verbose() -> None:
    lines = list(left_lines("merge", STEPS[2]["refusals"], verbose=True))
    assert len(lines) == 12
    assert lines[3] == "  merge left /layer.3/MatMul: not faster (0.83 times)"


def test_passes_that_changed_nothing_are_counted_and_the_rest_have_a_row() -> None:
    lines = _printed(_report(STEPS))
    assert "3 other passes changed nothing in 1.5 s (-v lists all)" in lines
    rows = [line.split() for line in lines]
    assert ["linear", "kept", "3", "0.5", "3", "layers"] in rows
    assert any(row[:2] == ["broken", "rejected"] for row in rows)
    assert not any(row[:1] == ["onnxsim"] for row in rows)
    assert sum(line.startswith("  merge left") for line in lines) == 1
    assert any("promised exact, but [x] differs by 1" in line for line in lines)


def test_all_passes_and_all_places_are_printed_if_verbose() -> None:
    lines = _printed(_report(STEPS), verbose=True)
    for step in STEPS:
        assert any(line.startswith(step["name"]) for line in lines)
    assert sum(line.startswith("  merge left") for line in lines) == 12
    assert not any("changed nothing" in line for line in lines)


def test_the_pareto_list_of_a_search_is_a_table_and_the_rest_is_counted() -> None:
    lines = _printed(_report(STEPS, **searched()))
    told = "search: --speedup 3 within --max-drop 0.01 is met: 3.10 times by int8-prune-0.30"
    assert f"{told}; 4 points tried, 1 of them known from before" in lines
    rows = [line.split() for line in lines if line.startswith(("int8", "fp32"))]
    assert [row[0] for row in rows] == ["int8-prune-0.30", "int8", "fp32"]
    assert " ".join(rows[0][1:]) == "3.10 3.08 to 3.12 0.0091 16.1 MB int8 0.30 chosen, Pareto"
    assert "1 other point was tried (-v lists all)" in lines
    every = _printed(_report(STEPS, **searched()), verbose=True)
    assert any("int8-prune-0.35" in line for line in every)
    missed = searched()["search"] | {"met": False}
    lines = _printed(_report(STEPS, **searched() | {"search": missed}))
    assert any("is not met: 3.10 times by" in line for line in lines)


def test_a_report_in_which_nothing_was_done_has_no_empty_table() -> None:
    lines = _printed(_report(STEPS[:1]))
    assert "nothing was changed: the output is the input" in lines
    assert "1 pass changed nothing in 0.5 s (-v lists all)" in lines
    assert not any(line.startswith("pass ") for line in lines)


def test_what_to_do_next_is_said_where_inputs_were_made_up() -> None:
    fidelity = {"feeds": "on made-up inputs", "count": 5, "metric": "loss", "drop": 0.0,
                "outputs": {}}  # fmt: skip
    hint = "next: --data FILE compares on your inputs, which tell more"
    assert hint in _printed(_report(STEPS, fidelity=fidelity))
    assert hint not in _printed(_report(STEPS, fidelity=fidelity | {"feeds": "on data.npz"}))


def test_missed_places_are_grouped_like_refusals() -> None:
    missed = [
        {"node": f"/layer.{layer}/Softmax", "nearest": "", "reason": f"/layer.{layer}/Mul differs"}
        for layer in range(3)
    ]
    lines = list(recovered_lines({"attention": {"expected": 5, "found": 2, "missed": missed}}))
    assert lines == [
        "recovered: 2 of 5 attentions",
        "  missed 3 attentions, /layer.0/Softmax the first: /layer.0/Mul differs",
    ]


def test_ports_that_changed_are_said() -> None:
    ports = [{"name": name, "from": "FLOAT", "to": "INT8"} for name in ("past", "present")]
    (line,) = [text for text in _printed(_report(STEPS, ports=ports)) if "ports" in text]
    assert line.startswith("ports: past and 1 more are INT8 now, FLOAT before")
    buffers = StaticCache("past", "present", "new", "mask", "rows").as_json()
    (line,) = [text for text in _printed(_report(STEPS, ports=buffers)) if "ports" in text]
    assert "past and 1 more: a past is a buffer" in line and "its new positions only" in line


@pytest.mark.parametrize("saturates", [True, False])
def test_what_processors_int8_needs(saturates: bool) -> None:
    report = _report([_step("int8", "kept", [])])
    report["target"]["saturates"] = saturates
    lines = [line for line in _printed(report) if "VNNI" in line]
    assert (
        lines
        == ["its int8 products saturate without VNNI, AMX or Arm's dot product (see --target)"]
        * saturates
    )
